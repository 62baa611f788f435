from dpud.scheduler import tenure

DATABASE = "postgresql://anna:secret@host/jobs"


def test_the_next_process_of_a_folder_knows_the_last_epoch(tmp_path):
    folder = tmp_path / "state"
    with tenure.held(folder, DATABASE) as first:
        assert first.last == 0
        first.note(100)
        first.note(7)
    with tenure.held(folder, DATABASE) as second:
        assert second.last == 7
    assert "secret" not in (folder / "epoch").read_text()


def test_the_epoch_of_another_database_means_nothing(tmp_path):
    with tenure.held(tmp_path, DATABASE) as first:
        first.note(7)
    with tenure.held(tmp_path, DATABASE + "2") as second:
        assert second.last == 0


def test_while_a_process_lives_its_epoch_is_nobody_elses(tmp_path):
    with tenure.held(tmp_path, DATABASE) as first:
        first.note(7)
        with tenure.held(tmp_path, DATABASE) as second:
            second.note(9)
            assert second.last == 0
        assert first.last == 7


def test_a_file_that_was_cut_short_means_nothing(tmp_path):
    for text in ("", "7", "7 ", "seven days"):
        (tmp_path / "epoch").write_text(text)
        with tenure.held(tmp_path, DATABASE) as found:
            assert found.last == 0


def test_where_nothing_can_be_kept_nothing_is_known(tmp_path):
    (tmp_path / "file").write_text("")
    with tenure.held(tmp_path / "file", DATABASE) as nowhere:
        nowhere.note(7)
        assert nowhere.last == 0
