"""What the suites with containers share: the engine, and images built once."""

import pytest

from fakes_containers import CONFIGURATION, build, lacking, make_base, mounted, unmount


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Have podman, or skip with the reason."""
    configuration = tmp_path_factory.mktemp("containers") / "containers.conf"
    configuration.write_text(CONFIGURATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(configuration))
        if why := lacking():
            pytest.skip(why)
        before = mounted()
        yield
        unmount(mounted() - before)


@pytest.fixture(scope="session")
def base(engine):  # noqa: ARG001 (podman must be there)
    """Return the name of the image that ours begin with."""
    return make_base()


@pytest.fixture(scope="session")
def images(base):  # noqa: ARG001 (as above)
    """Return the names of the images control and worker."""
    return build("control", "worker")
