"""`dpu` in a notebook: beside its loop, with tables as HTML and pictures shown."""

import os

import pytest

from fakes_client import SECRET, images, serving

pytest.importorskip("nbclient", reason="the notebook's client is not installed")
pytest.importorskip("ipykernel", reason="no kernel is installed")


def test_a_notebook_shows_jobs_as_tables_and_errors_as_they_are(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    sources = [
        "from dpu import Processor\ndpu = Processor(find_checkout=lambda: None)\ndpu.get_jobids()",
        "dpu.job(84820)",
        "dpu.run('HotPixels', i='WFI', d='2000-04-28')",
        "import asyncio\nawait asyncio.to_thread(dpu.get_status, 84820)",
        "try:\n    dpu.run('HotPixel')\nexcept Exception as error:\n    print(type(error).__name__)",
    ]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    script = images()
    script.jobs[84820].ended.GetCurrentTime()
    with serving(tmp_path, script) as address:
        (tmp_path / "token").write_text(SECRET)
        text = f'default = "x"\nusername = "osada"\n[dpus.x]\naddress = "{address}"\ntoken_file = "token"\n'
        (tmp_path / "config.toml").write_text(text)
        monkeypatch.setenv("DPU_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
        client.execute(env=dict(os.environ))
    first, table, submitted, status, wrong = ([*cell.outputs] for cell in notebook.cells)
    assert first[-1].data["text/plain"] == "[84820]"
    assert "<td>ccd50</td>" in table[-1].data["text/html"]
    assert submitted[-1].data["text/plain"] == "82382"
    assert "Jobid 84820 has status FINISHED" in status[-1].text
    assert wrong[-1].text == "UnknownSequence\n"
