"""The file of compose, run: a job through real containers, with PostgreSQL and Prometheus beside them."""

import json

import pytest

from fakes_compose import Group, make_stand_ins

pytestmark = pytest.mark.timeout(1800)

JOB = """
python -m dpu_recipes.simulate night --chips 2 --scale 0.1 --biases 4 > simulated
awe ingest night/raw | tail -n 1
awe -c "dpu.wait(dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1)); dpu.get_status()" | tail -n 1
"""
AGAIN = """
awe -c "dpu.wait(dpu.run('ReadNoise', i='WFI', d='2000-04-28', C=1, force=True)); dpu.get_status([1, 2])"
"""
#: Asks until all that is scraped answers.
SCRAPED = """
python - <<'END'
import json, time, urllib.request
for _ in range(120):
    with urllib.request.urlopen("http://prometheus:9090/api/v1/query?query=up", timeout=10) as answer:
        found = {each["metric"]["instance"]: each["value"][1] for each in json.load(answer)["data"]["result"]}
    if list(found.values()) == ["1"] * WANTED:
        break
    time.sleep(1)
print(json.dumps(found))
END
"""
PAGE = """
python - <<'END'
import urllib.request
print(urllib.request.urlopen("https://web:47315/login", timeout=60).read().decode())
END
"""


@pytest.fixture(scope="module")
def group(images, tmp_path_factory):  # noqa: ARG001 (the images must be there)
    make_stand_ins()
    with Group(tmp_path_factory.mktemp("compose")).running() as running:
        yield running


def test_a_job_runs_through_what_compose_starts(group):
    said = group.client(JOB)
    assert "8 new frames" in said, said + group.logs()
    assert said.endswith("has status FINISHED N/E/A/S/U 2/0/0/0/0"), said + group.logs()


def test_prometheus_scrapes_every_service_and_the_worker(group):
    ours = ("scheduler", "logs", "codeship", "archive", "worker", "web")
    found = json.loads(group.client(SCRAPED.replace("WANTED", str(len(ours)))).splitlines()[-1])
    assert list(found.values()) == ["1"] * len(ours), found


def test_the_queue_page_is_shown_under_a_certificate_of_the_authority(group):
    assert "<form" in group.client(PAGE)


def test_what_is_taken_down_comes_back_with_its_jobs_secrets_and_users(group):
    token = group.client("cat /secrets/user.token")
    group.run("down", "--timeout=5")
    assert group._containers() == []
    group.up()
    assert group.client("cat /secrets/user.token") == token
    said = group.client(AGAIN)
    for number in (1, 2):
        assert f"Jobid {number} has status FINISHED N/E/A/S/U 2/0/0/0/0" in said, said + group.logs()
