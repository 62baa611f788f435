"""Code that is shipped is counted as it travelled."""

from prometheus_client import REGISTRY

from dpu_api.v1.codeship_pb2 import BlobChunk, PutTreeRequest, Tree, UploadBlobsRequest
from dpu_api.v1.codeship_pb2_grpc import CodeServiceStub
from dpud.codeship.main import Settings, built
from dpud.hosting.server import listening
from fakes_codeship import digest, entry
from fakes_hosting import place

EMPTY = bytes.fromhex("28b52ffd2000010000")


async def test_uploads_and_trees_are_counted(tmp_path):
    blob = UploadBlobsRequest(chunk=BlobChunk(digest=digest(b""), size=0, zstd=EMPTY, last=True))
    tree = PutTreeRequest(tree=Tree(entries=[entry("a.py", b"")]))
    with place() as where:
        async with (
            built(Settings(where.listening, tmp_path / "state")) as services,
            listening(where.listening, services),
            where.channel("anna's") as channel,
        ):
            stub = CodeServiceStub(channel)
            await stub.UploadBlobs(iter([blob]))
            await stub.PutTree(tree)
            assert REGISTRY.get_sample_value("dpu_code_upload_bytes_total") == blob.ByteSize() + tree.ByteSize()
            assert REGISTRY.get_sample_value("dpu_code_trees_total") == 1
            assert REGISTRY.get_sample_value("dpu_disk_free_bytes", {"service": "codeship"}) > 0
    assert REGISTRY.get_sample_value("dpu_code_trees_total") is None
