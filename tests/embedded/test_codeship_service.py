"""Code shipping as its callers meet it: through a socket, with tokens, over a folder, with the real client."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

import grpc
import pytest
import zstandard

from dpu.bundle import bundle, ship
from dpu.channel import MIB, open_channel
from dpu.errors import BadTree, Conflict, MissingBlobs, NotAllowed, NotFound, UsageError
from dpu.status import from_rpc
from dpu_api.v1.catalogue_pb2 import Catalogue, Sequence
from dpu_api.v1.codeship_pb2 import (
    BlobChunk,
    DownloadBlobsRequest,
    FindMissingRequest,
    GetTreeRequest,
    GetVersionRequest,
    InstallVersionRequest,
    ListVersionsRequest,
    PutTreeRequest,
    RemoveVersionRequest,
    Tree,
    UploadBlobsRequest,
)
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.codeship.service import NAME, CodeServicer
from dpud.codeship.store_sqlite import SqliteCodeStore
from fakes_codeship import checkout, digest, entry, write
from fakes_hosting import served

A, B = b"first", b"second, longer"


class Desk:
    """Everybody who talks to one code service."""

    def __init__(self, address, channels):
        self.address = address
        self.user, self.stranger, self.worker, self.operator = map(CodeServiceStub, channels)

    async def ship(self, bundled):
        """Ship with the synchronous client, as the prompt does."""

        def run():
            with open_channel(self.address, "anna's", "KIDS") as channel:
                return ship(bundled, CodeServiceStub(channel))

        return await asyncio.to_thread(run)

    async def upload(self, *chunks, stub=None):
        requests = [UploadBlobsRequest(chunk=chunk) for chunk in chunks]
        return await (stub or self.user).UploadBlobs(iter(requests))

    async def missing(self, *contents, stub=None):
        request = FindMissingRequest(digests=[digest(content) for content in contents])
        return set((await (stub or self.user).FindMissing(request)).digests)

    async def download(self, *digests, stub=None):
        found, parts = [], b""
        async for response in (stub or self.user).DownloadBlobs(DownloadBlobsRequest(digests=digests)):
            chunk = response.chunk
            assert len(chunk.zstd) <= MIB
            parts += chunk.zstd
            if chunk.last:
                found.append(zstandard.ZstdDecompressor().decompress(parts))
                assert len(found[-1]) == chunk.size
                parts = b""
        return found


@pytest.fixture
async def code(tmp_path):
    async with desk(tmp_path / "store") as opened:
        yield opened


@asynccontextmanager
async def desk(folder):
    store = SqliteCodeStore(folder)
    try:
        async with (
            served([(NAME, CodeServicer(store).add_to)]) as where,
            where.channel("anna's") as user,
            where.channel("bert's", "VST") as stranger,
            where.channel("worker's", "") as worker,
            where.channel("olga's") as operator,
        ):
            yield Desk(where.address, [user, stranger, worker, operator])
    finally:
        store.close()


def chunk(content, *, name=None, size=None, frame=None, last=True):
    return BlobChunk(
        digest=digest(content) if name is None else name,
        size=len(content) if size is None else size,
        zstd=zstandard.ZstdCompressor().compress(content) if frame is None else frame,
        last=last,
    )


@asynccontextmanager
async def refused(kind, why):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    with pytest.raises(kind, match=why):
        raise from_rpc(caught.value)


async def test_an_uploaded_blob_is_missing_no_more_and_comes_back(code):
    assert await code.missing(A, B) == {digest(A), digest(B)}
    answer = await code.upload(chunk(A), chunk(B), chunk(b""))
    assert (answer.blobs, answer.bytes) == (3, len(A) + len(B))
    assert await code.missing(A, B, b"") == set()
    assert await code.download(digest(B), digest(b""), digest(A)) == [B, b"", A]


async def test_a_large_blob_travels_in_pieces(code):
    content = hashlib.shake_256(b"noise").digest(3 * MIB)
    frame = zstandard.ZstdCompressor().compress(content)
    pieces = [
        chunk(content, frame=frame[at : at + MIB], last=at + MIB >= len(frame)) for at in range(0, len(frame), MIB)
    ]
    assert len(pieces) > 3
    await code.upload(*pieces)
    assert await code.download(digest(content)) == [content]


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (chunk(A, name=digest(B)), f"blob {digest(B)}: its content has the digest {digest(A)}"),
        (chunk(A, size=4), "its frame declares 5 bytes, its chunk 4"),
        (chunk(A, size=1 << 40), "1099511627776 bytes, more than the 16777216 that may travel"),
        (chunk(A, size=-1), "-1 bytes"),
        (chunk(A, name="../../etc/passwd"), "no blob has this name"),
        (chunk(A, frame=b"nonsense"), "it is no zstd frame"),
        (chunk(A, frame=b""), "it is no zstd frame"),
        (chunk(A, frame=zstandard.ZstdCompressor(write_content_size=False).compress(A)), "frame declares -1 bytes"),
        (chunk(A, frame=zstandard.ZstdCompressor().compress(A) + b"more"), "it is no zstd frame"),
        (chunk(A, frame=zstandard.ZstdCompressor().compress(A)[:-3]), "it is no zstd frame"),
        (chunk(A, frame=b"x" * 5_000), "more compressed bytes than 5 bytes can need"),
        (chunk(A, last=False), "its last chunk did not come"),
    ],
)
async def test_a_blob_that_lies_is_refused_and_those_before_it_are_kept(code, lie, why):
    async with refused(UsageError, why):
        await code.upload(chunk(B), lie)
    assert await code.missing(A, B) == {digest(A)}


async def test_a_bomb_is_refused_without_being_unpacked(code):
    zeros = bytes(64 * MIB)
    frame = zstandard.ZstdCompressor().compress(zeros)
    async with refused(UsageError, "its frame declares 67108864 bytes, its chunk 1000000"):
        await code.upload(chunk(A, size=1_000_000, frame=frame))


async def test_a_bomb_that_declares_little_is_refused(code):
    # The declared size in a single-segment frame's header is made small: zstd must not write beyond it.
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(200)))
    assert zstandard.frame_content_size(bytes(frame)) == 200
    frame[5] = 5
    async with refused(UsageError, "it is no zstd frame"):
        await code.upload(chunk(A, frame=bytes(frame)))


async def test_blobs_that_mix_their_chunks_are_refused(code):
    async with refused(UsageError, f"blob {digest(A)} broke off: a chunk of blob '{digest(B)}' came instead"):
        await code.upload(chunk(A, last=False), chunk(B))


async def test_an_upload_that_broke_off_goes_on_where_it_was(code, tmp_path):
    folder = checkout(tmp_path / "checkout", {f"recipes/awe/{number}.py": f"N = {number}\n" for number in range(3)})
    contents = [f"N = {number}\n".encode() for number in range(3)]
    async with refused(UsageError, "its last chunk did not come"):
        await code.upload(chunk(contents[0]), chunk(contents[1]), chunk(contents[2], last=False))
    assert (await code.ship(bundle(folder))).files == 1


async def put(code, *entries, description="", stub=None, blobs=()):
    tree = Tree(entries=entries, description=description)
    return (await (stub or code.user).PutTree(PutTreeRequest(tree=tree, blobs=blobs))).digest


async def test_a_tree_comes_back_under_its_digest(code):
    await code.upload(chunk(A), chunk(B))
    name = await put(code, entry("awe/a.py", A), entry("awe/b.py", B), description="abc, git 1")
    tree = (await code.user.GetTree(GetTreeRequest(digest=name))).tree
    assert [each.path for each in tree.entries] == ["awe/a.py", "awe/b.py"]
    assert tree.description == "abc, git 1"
    assert await put(code, entry("awe/a.py", A), entry("awe/b.py", B), description="abc, git 2") == name
    assert (await code.user.GetTree(GetTreeRequest(digest=name))).tree.description == "abc, git 2"


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("../a.py", A)], r"'\.\./a\.py'"),
        ([entry("awe/a.py", A), entry("awe/A.py", A)], "differs from"),
        ([entry("awe/a.py", A, mode=0o4755)], "mode 4755"),
        ([entry("awe/a.py", A, size=1 << 34)], "more than the 16.0 MiB"),
        ([], "the tree is empty"),
        ([entry("/etc/awe.py", A)], "it is absolute"),
        ([entry("awe/a\0.py", A)], "a control character"),
        ([entry("awe", A), entry("awe/a.py", A)], "is a file and a folder"),
        ([entry("awe/pipe", A, mode=0o010644)], "mode 10644"),
        ([entry("awe/link", A, mode=0o120777)], "mode 120777"),
        ([entry("awe/device", A, mode=0o020644)], "mode 20644"),
        ([entry(f"awe/{number}.py", A) for number in range(20_001)], "20001 files"),
    ],
)
async def test_a_hostile_tree_is_refused_by_the_service_too(code, entries, why):
    await code.upload(chunk(A))
    async with refused(BadTree, why):
        await put(code, *entries)


async def test_a_tree_that_lies_about_a_size_is_refused(code):
    await code.upload(chunk(A))
    async with refused(UsageError, "'awe/a.py': its content has 5 bytes, not 6"):
        await put(code, entry("awe/a.py", A, size=6))


async def test_a_tree_whose_content_is_not_there_is_refused(code):
    await code.upload(chunk(A))
    async with refused(MissingBlobs, "the content of 1 files was not uploaded, among them 'awe/b.py'"):
        await put(code, entry("awe/a.py", A), entry("awe/b.py", B))


async def test_a_tree_brings_the_blobs_that_are_not_there(code):
    await code.upload(chunk(A))
    name = await put(code, entry("awe/a.py", A), entry("awe/b.py", B), blobs=[chunk(B)])
    assert (await code.user.GetTree(GetTreeRequest(digest=name))).tree.entries[1].path == "awe/b.py"
    assert await code.download(digest(B)) == [B]


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (chunk(B, frame=zstandard.compress(A)), "its frame declares 5 bytes, its chunk 14"),
        (chunk(b"SECOND, LONGER", name=digest(B)), "its content has the digest"),
        (chunk(B, last=False), "its last chunk did not come"),
    ],
)
async def test_a_blob_that_lies_takes_its_tree_with_it(code, lie, why):
    async with refused(UsageError, why):
        await put(code, entry("awe/a.py", A), entry("awe/b.py", B), blobs=[chunk(A), lie])
    assert await code.missing(A, B) == {digest(A), digest(B)}


async def test_a_blob_of_nothing_is_kept_as_our_own(code):
    frame = zstandard.ZstdCompressor().compress(b"") + b"what follows"
    await code.upload(chunk(b"", frame=frame))
    assert await code.download(digest(b"")) == [b""]


async def test_a_project_sees_nothing_of_anothers(code):
    await code.upload(chunk(A))
    name = await put(code, entry("awe/a.py", A))
    assert await code.missing(A, stub=code.stranger) == {digest(A)}
    async with refused(NotFound, "there is no tree of code"):
        await code.stranger.GetTree(GetTreeRequest(digest=name))
    async with refused(NotFound, "there is no blob"):
        await code.download(digest(A), stub=code.stranger)
    async with refused(MissingBlobs, "was not uploaded"):
        await put(code, entry("awe/a.py", A), stub=code.stranger)


async def test_a_worker_fetches_what_any_project_shipped(code):
    await code.upload(chunk(A), stub=code.stranger)
    name = await put(code, entry("awe/a.py", A), stub=code.stranger)
    tree = (await code.worker.GetTree(GetTreeRequest(digest=name))).tree
    assert await code.download(tree.entries[0].digest, stub=code.worker) == [A]
    async with refused(NotFound, "there is no tree of code"):
        await code.worker.GetTree(GetTreeRequest(digest=digest(B)))


async def test_what_is_asked_for_must_be_a_digest(code):
    async with refused(UsageError, "is not a SHA-256"):
        await code.user.FindMissing(FindMissingRequest(digests=["../../etc/passwd"]))
    async with refused(UsageError, "is not a SHA-256"):
        await code.user.GetTree(GetTreeRequest(digest="x/y"))


async def test_only_what_changed_travels(code, tmp_path):
    folder = checkout(
        tmp_path / "checkout", {f"recipes/awe/task_{number}.py": f"N = {number}\n" for number in range(50)}
    )
    first = await code.ship(bundle(folder))
    assert first.files == 50
    assert first.bytes > 0
    unchanged = await code.ship(bundle(folder))
    assert (unchanged.digest, unchanged.files, unchanged.bytes) == (first.digest, 0, 0)
    write(folder, {"recipes/awe/task_7.py": "N = 'seven'\n"})
    changed = bundle(folder)
    again = await code.ship(changed)
    assert (again.digest, again.files) == (changed.digest, 1)
    assert again.digest != first.digest


class Counted:
    """The stub of a client, which counts its calls."""

    def __init__(self, stub):
        self.calls = []
        for name in ("FindMissing", "UploadBlobs", "PutTree"):
            setattr(self, name, self._counting(name, getattr(stub, name)))

    def _counting(self, name, call):
        def counted(*arguments, **options):
            self.calls.append(name)
            return call(*arguments, **options)

        return counted


async def test_a_session_that_knows_what_is_there_ships_a_change_in_one_call(code, tmp_path):
    folder = checkout(tmp_path / "checkout", {f"recipes/awe/{number}.py": f"N = {number}\n" for number in range(9)})
    there = set()

    def run():
        with open_channel(code.address, "anna's", "KIDS") as channel:
            stub = Counted(CodeServiceStub(channel))
            return ship(bundle(folder), stub, there).files, stub.calls

    assert await asyncio.to_thread(run) == (9, ["PutTree", "FindMissing", "PutTree"])
    assert await asyncio.to_thread(run) == (0, ["PutTree"])
    write(folder, {"recipes/awe/7.py": "N = 'seven'\n"})
    assert await asyncio.to_thread(run) == (1, ["PutTree"])
    # What it knows may be wrong by now: somebody has cleared the store.
    there.add(digest(b"gone"))
    write(folder, {"recipes/awe/7.py": "gone"})
    assert await asyncio.to_thread(run) == (1, ["PutTree", "FindMissing", "PutTree"])


async def test_a_tree_of_many_megabytes_is_streamed(code, tmp_path):
    noise = {f"recipes/awe/{number}.dat": hashlib.shake_256(bytes([number])).hexdigest(MIB // 2) for number in range(5)}
    folder = checkout(tmp_path / "checkout", noise)
    shipped = await code.ship(bundle(folder))
    assert (shipped.files, shipped.bytes > 2 * MIB) == (5, True)
    assert (await code.ship(bundle(folder))).files == 0


async def test_a_shipped_tree_can_be_laid_out_again(code, tmp_path):
    folder = checkout(tmp_path / "checkout", {"recipes/awe/a.py": "A\n", "recipes/awe/deep/b.py": "B\n" * 1_000})
    shipped = await code.ship(bundle(folder))
    tree = (await code.worker.GetTree(GetTreeRequest(digest=shipped.digest))).tree
    contents = await code.download(*(each.digest for each in tree.entries), stub=code.worker)
    laid_out = {each.path: content.decode() for each, content in zip(tree.entries, contents, strict=True)}
    assert laid_out == {"awe/a.py": "A\n", "awe/deep/b.py": "B\n" * 1_000}


async def test_a_file_that_changes_while_it_is_shipped_is_said(code, tmp_path):
    folder = checkout(tmp_path / "checkout")
    bundled = bundle(folder)
    write(folder, {"recipes/awe/bias.py": "B = 3\n"})
    with pytest.raises(BadTree, match=r"'awe/bias\.py' was changed while it was being shipped"):
        await code.ship(bundled)


async def test_code_outlives_the_service(tmp_path):
    bundled = bundle(checkout(tmp_path / "checkout"))
    async with desk(tmp_path / "store") as code:
        await code.ship(bundled)
    async with desk(tmp_path / "store") as code:
        assert (await code.ship(bundled)).files == 0


CATALOGUE = Catalogue(version="2.4", sequences=[Sequence(name="Bias")])


async def installed(code, tmp_path, name="2.4"):
    """Ship a tree and install it; return its digest."""
    shipped = await code.ship(bundle(checkout(tmp_path / "checkout")))
    request = InstallVersionRequest(name=name, digest=shipped.digest, catalogue=CATALOGUE)
    assert (await code.operator.InstallVersion(request)).version.digest == shipped.digest
    return shipped.digest


async def test_a_version_that_an_operator_has_installed_is_there_for_users_of_all_projects(code, tmp_path):
    name = await installed(code, tmp_path)
    assert await installed(code, tmp_path / "again") == name
    found = (await code.stranger.GetVersion(GetVersionRequest(name="2.4"))).version
    assert (found.digest, found.catalogue, found.description) == (name, CATALOGUE, name[:12])
    (listed,) = (await code.user.ListVersions(ListVersionsRequest())).versions
    assert (listed.name, listed.digest, listed.HasField("catalogue")) == ("2.4", name, False)
    # Its files are the workers' to fetch, as of any tree, and not the strangers'.
    assert len((await code.worker.GetTree(GetTreeRequest(digest=name))).tree.entries) == 2
    async with refused(NotFound, "there is no tree of code"):
        await code.stranger.GetTree(GetTreeRequest(digest=name))


async def test_a_version_that_is_not_there_is_refused_with_those_that_are(code, tmp_path):
    await installed(code, tmp_path)
    why = r"version '2\.5' is not installed here: there is current, 2\.4 \(did you mean '2\.4'\?\)"
    async with refused(NotFound, why):
        await code.user.GetVersion(GetVersionRequest(name="2.5"))
    async with refused(NotFound, why):
        await code.operator.RemoveVersion(RemoveVersionRequest(name="2.5"))
    await code.operator.RemoveVersion(RemoveVersionRequest(name="2.4"))
    async with refused(NotFound, "there is current$"):
        await code.user.GetVersion(GetVersionRequest(name="2.4"))


async def test_a_name_stands_for_one_tree_until_it_is_removed(code, tmp_path):
    name = await installed(code, tmp_path)
    other = write(checkout(tmp_path / "other"), {"recipes/awe/bias.py": "B = 2\n"})
    shipped = await code.ship(bundle(other))
    request = InstallVersionRequest(name="2.4", digest=shipped.digest)
    async with refused(Conflict, f"version '2.4' is installed already, and is {name[:12]}: remove it first"):
        await code.operator.InstallVersion(request)
    await code.operator.RemoveVersion(RemoveVersionRequest(name="2.4"))
    assert (await code.operator.InstallVersion(request)).version.digest == shipped.digest


@pytest.mark.parametrize("name", ["", "current", "../2.4", "a b", "x" * 65])
async def test_what_is_no_name_for_a_version_is_refused(code, tmp_path, name):
    shipped = await code.ship(bundle(checkout(tmp_path / "checkout")))
    async with refused(UsageError, "is no name for a version"):
        await code.operator.InstallVersion(InstallVersionRequest(name=name, digest=shipped.digest))


async def test_only_operators_install_versions_and_only_what_was_shipped(code):
    request = InstallVersionRequest(name="2.4", digest=digest(A))
    async with refused(NotAllowed, "InstallVersion is not allowed to anna"):
        await code.user.InstallVersion(request)
    async with refused(NotFound, "there is no tree of code"):
        await code.operator.InstallVersion(request)
