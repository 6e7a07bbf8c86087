"""`maskall judge` over a run on disk: the same, another, or unreadable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.cli.entry import main
from harness.judge import rules
from harness.judge.rules import Expected
from harness.play.catalogue import catalogue
from harness.run import store
from harness.run.again import judged_again
from suites.selftest.replay.recording import unpacked

pytestmark = pytest.mark.whole


class TestJudge:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = unpacked("proven", tmp_path / "run")
        store.dump(judged_again(root).result(), root / "results.json")
        return root

    def judge(self, root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
        status = main(["judge", str(root), *options])
        read = capsys.readouterr()
        assert "Traceback" not in read.out + read.err
        return status, read.out + read.err

    def test_same(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, text = self.judge(root, capsys)
        assert status == 0
        assert text.splitlines()[0].startswith("SAME       E14-F1-hvm-virtio-rng: stock PASS, 61 checks; control FAIL")
        assert "2 SAME, 0 DIFFERS, 0 UNREADABLE; 2 sides and" in text
        assert "testimony of the harness, which no raw byte shows: 12 actions, 4 domids" in text
        assert self.judge(root / "results.json", capsys)[0] == 0, "its results.json stands for the run"

    def test_each_of_several_stacks(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = root.parent / "all"
        shutil.copytree(root, folder / "bookworm")
        shutil.copytree(root, folder / "trixie")
        status, text = self.judge(folder, capsys)
        assert status == 0 and text.count("2 SAME, 0 DIFFERS") == 2
        assert text.startswith("bookworm:\nSAME ") and "\ntrixie:\nSAME " in text
        (folder / "trixie/raw/E14-F1-hvm-virtio-rng/stock/13-C6/xl_list.txt").unlink()
        assert self.judge(folder, capsys)[0] == 2, "the worst"
        status, text = self.judge(folder, capsys, "--json")
        assert {name: one["exit_status"] for name, one in json.loads(text).items()} == {"bookworm": 0, "trixie": 2}

    @pytest.mark.parametrize(("stored", "word"), [("FAIL", "LAXER"), ("PASS", "SAME")])
    def test_stricter_and_laxer(self, root: Path, stored: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = root / "results.json"
        data = json.loads(path.read_text())
        data["scenarios"][0]["stock"]["judgement"]["verdict"] = stored
        path.write_text(json.dumps(data))
        assert self.judge(root, capsys)[1].startswith(f"{word} ")
        data["scenarios"][0]["stock"]["judgement"]["verdict"] = "PASS"
        data["scenarios"][0]["control"]["judgement"]["verdict"] = "PASS"
        path.write_text(json.dumps(data))
        assert self.judge(root, capsys)[1].startswith("STRICTER ")

    def test_any_byte_of_any_file(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = sorted(path for path in (root / "raw").rglob("*") if path.is_file() and path.stat().st_size)
        assert len(files) > 80
        for path in files[:: len(files) // 12]:
            data = path.read_bytes()
            place = len(data) // 2
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            status, text = self.judge(root, capsys)
            assert status == 2
            assert f"UNREADABLE E14-F1-hvm-virtio-rng\n             '{path.relative_to(root)}' was changed" in text
            assert "SAME" not in text.replace("0 SAME", ""), "nothing adds up to a run"
            path.write_bytes(data)

    def test_a_file_that_is_missing(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "raw/E14-F1-hvm-virtio-rng/stock/13-C6/xl_list.txt").unlink()
        status, text = self.judge(root, capsys)
        assert status == 2
        assert "'raw/E14-F1-hvm-virtio-rng/stock/13-C6/xl_list.txt' cannot be read: No such file" in text

    def test_another_rule_changes_what_rests_on_it(
        self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rules, "_WORKING", Expected(memory=True, enabled=True, masked=None))
        status, text = self.judge(root, capsys)
        assert status == 1
        changed = [line for line in text.splitlines() if "check " in line]
        assert [line.split("check ")[1].split(": expected")[0] for line in changed] == [
            "C2 hardware: message control",
            "C6 hardware: message control",
        ] * 2
        assert "control: reason: was C6 hardware" in text and "is no more, was violated, seen Enable+ Masked+" in text
        answers = json.loads(self.judge(root, capsys, "--json")[1])
        assert (answers["exit_status"], answers["judged"][0]["answer"]) == (1, "DIFFERS")
        assert any(one["what"] == "verdict" for one in answers["judged"][0]["differences"]) is False

    def test_a_catalogue_that_was_changed_is_told(
        self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = "which is not that of the catalogue today: E14-F1-hvm-virtio-rng"
        assert told not in self.judge(root, capsys)[1]
        known = catalogue()
        changed = known.endings | {"E14": known.endings["E14"].model_copy(update={"fault": ("decode_off",)})}
        monkeypatch.setattr("harness.run.comparison.catalogue", lambda: known.model_copy(update={"endings": changed}))
        status, text = self.judge(root, capsys)
        assert status == 0 and told in text, "it was played, and is judged, by its own definition"

    def test_a_stored_verdict_that_was_edited(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = root / "results.json"
        path.write_text(path.read_text().replace('"verdict": "FAIL"', '"verdict": "PASS"', 1))
        status, text = self.judge(root, capsys)
        assert status == 1 and "control: verdict: was PASS, is FAIL" in text

    def test_one_scenario(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.judge(root, capsys, "--scenario", "E14-*")[0] == 0
        status, text = self.judge(root, capsys, "--scenario", "E99-*")
        assert (status, text.splitlines()[0]) == (2, "maskall: the run has no scenario 'E99-*'")

    @pytest.mark.parametrize("name", ["run.json", "results.json"])
    def test_the_runs_own_files(self, root: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        content = (root / name).read_text()
        for spoiled in (content[: len(content) // 2], "[]", content.replace('"run_id"', '"run"', 1)):
            (root / name).write_text(spoiled)
            status, text = self.judge(root, capsys)
            assert status == 2 and name in text
        (root / name).unlink()
        status, text = self.judge(root, capsys)
        assert status == 2 and f"'{name}' cannot be read" in text

    def test_a_record_that_was_changed(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = root / "raw/E14-F1-hvm-virtio-rng/stock/record.json"
        path.write_text(path.read_text().replace('"ok": true', '"ok": false', 1))
        status, text = self.judge(root, capsys)
        assert status == 2 and "record.json' was changed after it was stored" in text

    def test_help_teaches(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["judge", "--help"]) == 0
        text = capsys.readouterr().out
        assert "0 same, 1 differs, 2 a file is missing" in text and "on the harness's word" in text
