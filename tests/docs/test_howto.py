"""The HOW-TO is whole: each of its sequences is there, in its order, or stands in the list of those that wait."""

import re
from pathlib import Path

from dpu.catalogue import describe_installed

PAGE = (Path(__file__).parents[2] / "docs" / "howto.md").read_text()
# fmt: off
ORIGINAL = [
    "HotPixels", "ReadNoise", "Bias", "MasterFlat", "NightSkyFlat", "DomeFlat", "TwilightFlat", "Gain",
    "ColdPixels", "QuickCheck", "FringeFlat", "Photcat", "Photom", "Reduce>GAstrometry>Coadd", "Regrid>Coadd",
    "GAstrom", "SourceList", "Reduce", "Astrometry", "Regrid", "GAstrometry", "Reduce>GAstrometry>Regrid",
    "GAstromSL", "Coadd", "Reduce>Astrometry", "Reduce>Regrid", "Reduce>Coadd", "AssociateList", "GalFit",
    "GalPhot",
]
# fmt: on
EXAMPLES = """
dpu.get_sequence_identifiers()
dpu.get_sequence_options('HotPixels')
dpu.show_sequence_options('HotPixels')
dpu.run('DomeFlat', i='WFI', d='2000-04-28', f='#842')
dpu.run('DomeFlat', i='WFI', d='2000-04-28', f='#842', C=1)
dpu.run('DomeFlat', i='WFI', d='2000-04-28', f='#842', c='ccd50')
dpu.run('Reduce', i='WFI', o='CDF4_B_?', d='2000-04-29', f='#845')
dpu.run('HotPixels', i='WFI', c='ccd50', d='2000-04-28')
dpu.get_jobids()
dpu.get_status()
dpu.get_logs(
dpu.cancel_job(
for jobid in dpu.get_jobids(): dpu.cancel_job(jobid)
""".strip().splitlines()


def waiting() -> list[str]:
    """Return the list at the end of the page: sequences, then examples."""
    return PAGE.rpartition("```text\n")[2].partition("```")[0].splitlines()


def test_every_sequence_of_the_original_is_there_in_its_order_or_waits(tmp_path):
    built = [sequence.name for sequence in describe_installed(tmp_path).sequences]
    waits = " ".join(line for line in waiting() if not line.startswith("dpu.")).split()
    assert built == [name for name in ORIGINAL if name in built], "out of the original's order"
    assert waits == [name for name in ORIGINAL if name not in built], "docs/howto.md lists others as waiting"


def test_every_example_of_the_original_is_run_in_its_order_or_waits():
    run = re.findall(r"^awe> (.*)$", PAGE, re.MULTILINE)
    waits = [line for line in waiting() if line.startswith("dpu.")]
    shown = [example for example in EXAMPLES if example not in waits]
    found = [next(number for number, line in enumerate(run) if example in line) for example in shown]
    assert found == sorted(found)
    assert set(waits) < set(EXAMPLES)


def test_an_example_waits_only_for_a_sequence_that_is_not_built():
    waits = waiting()
    names = " ".join(waits).split()
    for example in (line for line in waits if line.startswith("dpu.")):
        assert example.split("'")[1] in names
