"""Messages and values, there and back."""

from dataclasses import replace

import pytest

from dpu.errors import BadFrame, BadOption
from dpu_api.v1 import archive_pb2 as pb
from dpu_recipes.frames import EPOCH
from dpud.archive.records import Position, Query, View
from dpud.archive.wire import from_token, page_size, to_frame, to_query, to_staged, to_token
from fakes_archive import a_product, announced


def test_a_product_comes_through_the_wire_whole():
    record = a_product()
    given = replace(record, frame=record.frame.evolve(id="", file_name="", creation_date=EPOCH))
    message = announced(given).product
    assert to_staged(message) == given


def test_a_frame_says_where_it_is_and_who_made_it(tmp_path):
    message = to_frame(a_product(), tmp_path)
    assert message.path == str(tmp_path)
    assert (message.ref.job_id, message.ref.task, message.ref.attempt) == (1, 1, 1)
    assert message.values.entries["NFRAMES"].int_value == 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("frame_class", "", "a product was announced without frame_class"),
        ("night", "", "a product was announced without night"),
        ("night", "28 April", "a BiasFrame was announced with night '28 April', which is none"),
        ("instrument", "", "a product was announced without instrument"),
    ],
)
def test_a_product_that_says_too_little_is_refused(field, value, message):
    product = announced(a_product()).product
    setattr(product.frame, field, value)
    with pytest.raises(BadFrame, match=message):
        to_staged(product)


def test_a_product_needs_the_user_and_the_project_of_its_job_and_its_attempt():
    product = announced(a_product()).product
    product.project = ""
    with pytest.raises(BadFrame, match="without the user and the project"):
        to_staged(product)
    product = announced(a_product()).product
    product.frame.ref.attempt = 0
    with pytest.raises(BadFrame, match="without the attempt"):
        to_staged(product)


def test_a_page_token_means_the_same_list_only():
    request = pb.ListFramesRequest(frame_class="BiasFrame", page_size=10)
    token = to_token(Position(5, "ccd50", 7), request)
    assert from_token(pb.ListFramesRequest(frame_class="BiasFrame", page_size=3, page_token=token)) == (5, "ccd50", 7)
    with pytest.raises(BadOption, match="is not one that this list gave"):
        from_token(pb.ListFramesRequest(frame_class="ReadNoise", page_token=token))


@pytest.mark.parametrize(("asked", "size"), [(0, 1000), (1, 1), (1000, 1000), (5000, 1000)])
def test_a_page_has_at_most_a_thousand_frames(asked, size):
    assert page_size(pb.ListFramesRequest(page_size=asked)) == size


def test_a_negative_page_is_refused():
    with pytest.raises(BadOption, match="page_size -1 is negative"):
        page_size(pb.ListFramesRequest(page_size=-1))


def test_a_list_is_asked_for_in_the_callers_project():
    request = pb.ListFramesRequest(frame_class="BiasFrame", job_id=7, only_job=True)
    query = to_query(request, View("KIDS", 7))
    assert query == Query(view=View("KIDS", 7), frame_class="BiasFrame", selection=query.selection, only_job=True)
    assert query.selection.file_names == ()


def test_a_product_of_a_level_that_is_none_is_refused():
    request = announced(a_product())
    for said, level in ((0, 2), (1, 1), (5, 5)):
        request.product.frame.privileges = said
        assert to_staged(request.product).privileges == level
    request.product.frame.privileges = 6
    with pytest.raises(BadFrame, match="a product was announced with privileges=6: they go from 1 to 5"):
        to_staged(request.product)
