"""The files of examples/deploy name commands, settings, paths and metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from headway.cli.flags import settings_of
from headway.cli.main import COMMANDS
from headway.config import EngineConfig, ServerConfig
from headway.server.endpoints import ENDPOINTS
from headway.server.run import FLUSH_SECONDS
from headway.wire import EngineStats
from tests.server.conftest import Running, serving
from tests.server.test_slo import busy_engine, pacing_of

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"
SETTINGS = {
    f"HEADWAY_{setting.name.upper()}"
    for settings in (EngineConfig, ServerConfig)
    for setting in settings_of(settings)
} | {"HEADWAY_HOME"}
PATHS = {endpoint.path for endpoint in ENDPOINTS}
KILLED_AFTER = ServerConfig().shutdown_timeout + FLUSH_SECONDS
"""Seconds that a server takes to end at most."""


def documents(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / name).read_text()))
    return found


def words_of_a_server(words: list[str]) -> None:
    """What a container is told to run is a command of ours."""
    assert words[0] in COMMANDS
    subprocess.run([sys.executable, "-m", "headway", words[0], "--help"], check=True)


# Settings everywhere.


@pytest.mark.parametrize(
    "name", ["Dockerfile", "compose.yaml", "headway.service", "kubernetes.yaml", "README.md"]
)
def test_every_variable_is_a_setting(name: str) -> None:
    named = set(re.findall(r"\bHEADWAY_[A-Z_]+", (DEPLOY / name).read_text()))
    assert named
    assert named - SETTINGS == set()


def test_the_readme_names_every_file_and_flags_that_there_are() -> None:
    text = (DEPLOY / "README.md").read_text()
    top = {path.name for path in DEPLOY.iterdir() if path.suffix != ".dockerignore"}
    assert {name for name in top if name not in text} == {"README.md"}
    flags = set(re.findall(r"`--([a-z-]+)", text)) - {"target"}
    known = {name.removeprefix("HEADWAY_").lower().replace("_", "-") for name in SETTINGS}
    assert {flag.removeprefix("no-") for flag in flags} <= known


# Dockerfile.


def instructions() -> Iterator[tuple[str, str]]:
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line[:1] != "#"]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, re.sub(r"\s+", " ", rest)


def test_the_image_is_made_of_what_there_is() -> None:
    found = list(instructions())
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK"}
    assert {word for word, _ in found} - known == {"STOPSIGNAL", "ENTRYPOINT", "CMD", "ARG"}
    stages: list[str] = []
    sources: list[str] = []
    for word, rest in found:
        if word == "FROM":
            assert rest.split()[0] in stages or ":" in rest.split()[0], "pinned to a version"
            stages.append(rest.split()[2])
        if word == "COPY":
            *given, _ = rest.split()
            if given[0].startswith("--from="):
                assert given[0].removeprefix("--from=") in stages
            else:
                sources += given
    assert stages == ["build", "server", "baked"]
    assert [name for name in sources if not (ROOT / name).exists()] == []
    # hatchling reads these when it builds; what it needs must be copied.
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "native", "src"} == set(
        sources
    )
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in sources} <= set(allowed)


def test_the_image_runs_our_commands_as_nobody_special() -> None:
    found = list(instructions())
    by_word = dict(found)
    assert json.loads(by_word["ENTRYPOINT"]) == ["headway"]
    words_of_a_server(json.loads(by_word["CMD"]))
    assert by_word["USER"] == "10001"
    assert by_word["STOPSIGNAL"] == "SIGTERM"
    assert [word for word, _ in found].index("USER") < [word for word, _ in found].index("CMD")
    check = by_word["HEALTHCHECK"]
    (path,) = re.findall(r"127\.0\.0\.1:8000(/\w+)", check)
    assert path in PATHS
    assert by_word["EXPOSE"] == str(ServerConfig().port) == "8000"
    for group, action in re.findall(r"headway (\w+) (\w+)", by_word["RUN"]):
        command = [sys.executable, "-m", "headway", group, action, "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# Compose.


def test_compose() -> None:
    (compose,) = documents("compose.yaml")
    services: dict[str, dict[str, Any]] = compose["services"]
    assert set(services) == {"headway", "prometheus", "grafana"}
    declared = set(compose["volumes"])
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            here = source.startswith(".") and (DEPLOY / source).exists()
            assert here or source in declared, source
    server = services["headway"]
    build = server["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]) == DEPLOY / "Dockerfile"
    words_of_a_server(server["command"])
    assert seconds_of(server["stop_grace_period"]) > KILLED_AFTER
    if shutil.which("docker-compose"):
        subprocess.run(
            ["docker-compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
            check=True,
            env={"HEADWAY_API_KEY": "x", "GRAFANA_PASSWORD": "x"},
        )


def seconds_of(text: str) -> float:
    found = re.fullmatch(r"(\d+)s", text)
    assert found is not None
    return float(found[1])


# systemd.


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "headway.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_drains() -> None:
    settings = unit()
    program, *words = settings["ExecStart"][0].split()
    assert program.endswith("/bin/headway")
    words_of_a_server(words)
    # To the server alone: the engine must live until it has computed what is in flight.
    assert settings["KillMode"] == ["mixed"]
    assert settings.get("KillSignal", ["SIGTERM"]) == ["SIGTERM"]
    assert float(settings["TimeoutStopSec"][0]) > KILLED_AFTER
    assert settings["Restart"] == ["always"]
    assert f"HEADWAY_HOME=/var/lib/{settings['StateDirectory'][0]}" in settings["Environment"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "headway.service").read_text()
    path = tmp_path / "headway.service"
    # It also looks whether the program is there.
    path.write_text(text.replace("/srv/headway/bin/headway", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(path.read_text().replace("KillMode=mixed", "KillMod=mixed"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert "KillMod" in done.stderr, "a wrong name would have been found"


# Kubernetes.

SHAPES: dict[str, Mapping[str, type | tuple[type, ...]]] = {
    "PersistentVolumeClaim": {"accessModes": list, "resources": dict},
    "Deployment": {"replicas": int, "selector": dict, "strategy": dict, "template": dict},
    "Service": {"selector": dict, "ports": list},
}
VERSIONS = {"PersistentVolumeClaim": "v1", "Deployment": "apps/v1", "Service": "v1"}
CONTAINER = {
    "name",
    "image",
    "imagePullPolicy",
    "args",
    "env",
    "ports",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "lifecycle",
    "resources",
    "securityContext",
    "volumeMounts",
}


def manifests() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in documents("kubernetes.yaml")}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_the_manifests_have_their_shape() -> None:
    found = manifests()
    assert set(found) == set(SHAPES)
    for kind, manifest in found.items():
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        assert manifest["apiVersion"] == VERSIONS[kind]
        assert re.fullmatch(r"[a-z][a-z-]+", manifest["metadata"]["name"])
        spec = manifest["spec"]
        assert set(spec) == set(SHAPES[kind])
        assert all(isinstance(spec[name], kind_) for name, kind_ in SHAPES[kind].items())
    deployment = found["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    annotations = deployment["template"]["metadata"]["annotations"]
    assert all(isinstance(value, str) for value in annotations.values())
    assert annotations["prometheus.io/path"] in PATHS
    (container,) = pod()["containers"]
    assert set(container) == CONTAINER
    for variable in container["env"]:
        assert ("valueFrom" in variable) != isinstance(variable.get("value"), str)
    words_of_a_server(container["args"])
    (port,) = container["ports"]
    assert port["containerPort"] == ServerConfig().port
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    claims = [each.get("persistentVolumeClaim") for each in pod()["volumes"]]
    claim = found["PersistentVolumeClaim"]["metadata"]["name"]
    assert {"claimName": claim} in claims


def test_a_pod_drains_before_it_is_killed() -> None:
    (container,) = pod()["containers"]
    (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    (timeout,) = [each["value"] for each in container["env"] if "TIMEOUT" in each["name"]]
    assert float(timeout) == ServerConfig().shutdown_timeout
    assert pod()["terminationGracePeriodSeconds"] > KILLED_AFTER + float(pause)


def test_a_pod_is_asked_the_right_questions() -> None:
    (container,) = pod()["containers"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    asked = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert asked == {"startup": "/ready", "readiness": "/ready", "liveness": "/health"}
    assert set(asked.values()) <= PATHS
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    # The first start downloads and prepares.
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 300


def test_a_pod_may_do_little_and_gets_no_settings_of_others() -> None:
    spec = pod()
    (container,) = spec["containers"]
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    image_user = dict(instructions())["USER"]
    assert str(spec["securityContext"]["runAsUser"]) == image_user
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts) == {"/var/lib/headway", "/tmp"}
    assert set(mounts.values()) == {volume["name"] for volume in spec["volumes"]}
    image = dict(pair.split("=") for pair in dict(instructions())["ENV"].split())
    assert image["HEADWAY_HOME"] in mounts
    resources = container["resources"]
    assert resources["limits"] == resources["requests"]
    assert re.fullmatch(r"\d+", resources["limits"]["cpu"]), "whole cores"


# Dashboard and alerts.

WORDS = {"sum", "avg", "min", "max", "count", "rate", "increase", "by", "or", "histogram_quantile"}
OUTSIDE = {"up": {"job", "instance"}}
"""Series that Prometheus makes itself."""
ADDED = {"job", "instance"}
"""Labels that Prometheus adds to all."""
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)(\{[^{}]*\})?(\[[^\[\]]+\])?")
MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"[^"]*"')


def take_a_step(server: Running) -> None:
    """Let the engine tell of a step of a known model, in which drafts were right."""
    engine = busy_engine(pacing_of())
    news = EngineStats(step=10**6, pacing=pacing_of(), accepted_per_position=(2, 1))
    server.engine.info, server.engine.stats = engine.info, news
    for listener in server.engine._listeners:
        listener([], news, time.monotonic())


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """The samples of a server that has served, on time and late, and refused; with their labels."""
    config = ServerConfig(port=0, response_cache=2**20)
    several = ServerConfig(port=0, replicas=2)
    engine = EngineConfig(slo="ttft=10s,tpot=10s,e2el=10s", slo_batch="e2el=1ms")
    with serving(config=config, engine=engine) as server, server.http() as http:
        body: dict[str, Any] = {"prompt": "x", "max_tokens": 3}
        assert http.post("/v1/completions", json=body).status_code == 200
        late = body | {"max_tokens": 500, "slo": {"class": "batch"}}
        assert http.post("/v1/completions", json=late).status_code == 200
        server.call(lambda: take_a_step(server))
        server.call(server.state.drain)
        assert http.post("/v1/completions", json=body).status_code == 503
        text = http.get("/metrics").text
    with serving(config=several) as server, server.http() as http:
        text += http.get("/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def dashboard() -> dict[str, Any]:
    path = DEPLOY / "grafana" / "dashboards" / "headway.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """All queries, and the text that is written with their labels."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]
    (alerts,) = documents("prometheus/alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["expr"], rule["annotations"]["summary"]


def problems(query: str, series: Mapping[str, set[str]]) -> list[str]:
    """What is wrong with a query over these series: unknown names or labels, open brackets."""
    found = []
    for opening, closing in ("()", "{}", "[]"):
        if query.count(opening) != query.count(closing):
            found.append(f"{opening} is not closed")
    bare = re.sub(r"\b(?:by|on) \([^()]*\)", " ", re.sub(r"\[[^\]]*\]", " ", query))
    for name, selector, _ in SELECTOR.findall(re.sub(r"\$\w+", "1m", bare)):
        if name in WORDS or re.fullmatch(r"\d.*|m", name):
            continue
        labels = OUTSIDE.get(name, series.get(name))
        if labels is None:
            found.append(f"no metric {name}")
            continue
        inside = selector.strip("{}")
        left = MATCHER.sub("", inside).replace(",", "").strip()
        if left:
            found.append(f"cannot read {left}")
        wanted = {label for label, _ in MATCHER.findall(inside)}
        found += [f"{name} has no label {label}" for label in wanted - labels - ADDED]
    everywhere = set().union(*series.values()) | ADDED
    for group in re.findall(r"\bby \(([^()]*)\)", query):
        unknown = {label.strip() for label in group.split(",")} - everywhere
        found += [f"no label {label}" for label in unknown]
    return found


def test_every_query_asks_for_what_metrics_has(series: dict[str, set[str]]) -> None:
    found = list(queries())
    assert len(found) > 60
    for query, text in found:
        assert problems(query, series) == [], query
        for label in re.findall(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}", text):
            assert label in query or label in ADDED | series.get(query.partition("{")[0], set())


@pytest.mark.parametrize(
    "query",
    [
        "sum(rate(vllm:no_such_total[5m]))",
        'vllm:num_requests_running{colour="red"}',
        "sum by (colour) (vllm:num_requests_running)",
        "sum(rate(vllm:num_preemptions_total[5m])",
        "vllm:num_requests_running{model_name~x}",
        "vllm:num_preemptions",
    ],
)
def test_a_wrong_query_would_be_found(query: str, series: dict[str, set[str]]) -> None:
    assert problems(query, series)


def test_the_dashboard_is_whole() -> None:
    found = dashboard()
    panels = found["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels), "no panel lies on another"
    variables = {each["name"] for each in found["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used - {"__rate_interval"} <= variables
    for panel in panels:
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs)
        assert (len(refs) > 0) == (panel["type"] != "row")


def test_the_dashboard_has_a_row_for_each_question() -> None:
    panels = dashboard()["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert titles == [
        "Traffic",
        "Latency against objectives",
        "Batch",
        "KV memory and prefix cache",
        "Response cache",
        "Speculation",
        "Replicas",
        "Failures",
    ]
    rows = [number for number, panel in enumerate(panels) if panel["type"] == "row"]
    assert all(after - row > 1 for row, after in pairwise([*rows, len(panels)])), "none is empty"
    assert panels == sorted(
        panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])
    )


def test_the_dashboard_is_what_its_script_writes() -> None:
    folder = DEPLOY / "grafana"
    command = [sys.executable, str(folder / "dashboard.py")]
    written = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert written == (folder / "dashboards" / "headway.json").read_text()


def test_what_grafana_and_prometheus_are_given_fits_together() -> None:
    (compose,) = documents("compose.yaml")
    (scrape,) = documents("prometheus/prometheus.yml")
    (job,) = scrape["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in compose["services"]
    assert int(port) == ServerConfig().port
    assert all((DEPLOY / "prometheus" / name).exists() for name in scrape["rule_files"])
    (source,) = documents("grafana/provisioning/datasources/prometheus.yml")
    assert "//prometheus:" in source["datasources"][0]["url"]
    (provider,) = documents("grafana/provisioning/dashboards/headway.yml")
    folder = provider["providers"][0]["options"]["path"]
    assert any(each.split(":")[1] == folder for each in compose["services"]["grafana"]["volumes"])
    (alerts,) = documents("prometheus/alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule)
            assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
