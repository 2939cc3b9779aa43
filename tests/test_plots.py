import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
VLLM = "256 x 2048 (vLLM's defaults)"
# By rate: what one fixed setting, vLLM's defaults and paced attain.
ATTAINED = {"2": (1.0, 0.9, 1.0), "3": (0.5, 0.7, 1.0), "4": (0.2, 0.1, 0.9)}

Record = dict[str, list[dict[str, object]]]


def simulated() -> Record:
    rows: list[dict[str, object]] = []
    for rate, shares in ATTAINED.items():
        for system, share in zip(("64 x 512", VLLM, "paced"), shares, strict=True):
            row: dict[str, object] = {
                "load": f"azure conversation x {rate}",
                "family": "azure conversation",
            }
            policy = "paced" if system == "paced" else "continuous"
            rows.append(row | {"system": system, "policy": policy, "attainment": share})
    rows.append(rows[0] | {"system": "64 x 512, 10% refused at random", "attainment": 0.99})
    for place, row in enumerate(rows):
        row["refused"] = 3 if place == len(rows) - 1 else 0
    return {"rows": rows}


def draw(folder: Path, what: str, record: Record) -> subprocess.CompletedProcess[str]:
    (folder / "record.json").write_text(json.dumps(record))
    command = [sys.executable, str(ROOT / "benchmarks" / "plots.py"), what]
    command += [str(folder / "record.json"), "--out", str(folder / "images" / "drawn.svg")]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def drawn(folder: Path, what: str, record: Record) -> tuple[str, ElementTree.Element]:
    done = draw(folder, what, record)
    assert done.returncode == 0, done.stderr
    text = (folder / "images" / "drawn.svg").read_text()
    return text, ElementTree.fromstring(text)


def test_each_rate_has_the_setting_that_is_best_there(tmp_path: Path) -> None:
    _, svg = drawn(tmp_path, "rate", simulated())
    said = svg.findtext(f"{SVG}desc") or ""
    assert "paced: 100 % at 2, 100 % at 3, 90 % at 4." in said
    assert "the best fixed setting at each rate: 100 % at 2, 70 % at 3, 20 % at 4." in said
    assert "vLLM's defaults: 90 % at 2, 70 % at 3, 10 % at 4." in said


def test_a_line_goes_down_where_less_is_attained(tmp_path: Path) -> None:
    _, svg = drawn(tmp_path, "rate", simulated())
    (line,) = (
        path
        for path in svg.iter(f"{SVG}path")
        if path.get("class") == "s2" and "L" in path.get("d", "")
    )
    spots = [tuple(map(float, spot.split())) for spot in line.get("d", "")[1:].split("L")]
    assert [across for across, _ in spots] == sorted(across for across, _ in spots)
    down = [spot[1] for spot in spots]
    assert down[0] < down[1] < down[2]
    assert abs((down[1] - down[0]) / 0.2 - (down[2] - down[1]) / 0.6) < 1


def test_every_run_on_the_real_engine_has_a_mark(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"load": load, "system": system, "runs": [{"attainment": each} for each in shares]}
        for load in ("steady 80%", "steady 150%")
        for system, shares in (("64 x 512", (0.1, 0.3, 0.2)), ("paced", (0.7, 0.9, 0.8)))
    ]
    _, svg = drawn(tmp_path, "loads", {"rows": rows})
    assert len([*svg.iter(f"{SVG}circle")]) == 12
    assert "steady 150%, paced: 80 % (70 % to 90 %)." in (svg.findtext(f"{SVG}desc") or "")


def test_the_same_record_gives_the_same_bytes_and_they_are_few(tmp_path: Path) -> None:
    text, svg = drawn(tmp_path, "rate", simulated())
    assert drawn(tmp_path, "rate", simulated())[0] == text
    assert len(text) < 15_000
    assert svg.get("role") == "img"
    assert "prefers-color-scheme:dark" in text
    assert "url(" not in text
    assert "href" not in text


def test_a_record_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    done = draw(tmp_path, "loads", simulated())
    assert done.returncode == 2
    assert "has no runs" in done.stderr
    few = {"rows": [row for row in simulated()["rows"] if " x 2" in str(row["load"])]}
    done = draw(tmp_path, "rate", few)
    assert done.returncode == 2
    assert "a line needs two" in done.stderr


def test_images_that_documents_show_exist_and_have_a_text() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).is_file(), f"{page.name} shows {target}"
            assert text, f"{target} in {page.name} has no text"
    for image in (ROOT / "docs").rglob("*.svg"):
        svg = ElementTree.parse(image).getroot()
        assert svg.findtext(f"{SVG}title")
        assert svg.findtext(f"{SVG}desc")
        assert image.stat().st_size < 15_000
