"""The launch files: valid for Ray and KubeRay, linted, with correct tokens, placement and sizes."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from linters import lint
from ray.autoscaler.sdk import bootstrap_config, fillout_defaults
from ray.scripts.scripts import start
from ray.serve.schema import ServeDeploySchema

from prefrec_ray.serving.shards import ShardSettings

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_UP = ("aws.yaml", "gcp.yaml", "onprem.yaml")
KUBERAY = {"kuberay-cluster.yaml": "RayCluster", "kuberay-job.yaml": "RayJob"}
#: All manifests, including those with other groups of workers.
MANIFESTS = {**KUBERAY, "kuberay-service.yaml": "RayService"}
RAY_SCHEMA = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text("utf-8"))
CRDS = json.loads((Path(__file__).parent / "kuberay_crds.json").read_text("utf-8"))


def ray_up(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text("utf-8"))


def kuberay(name: str) -> dict[str, Any]:
    return next(yaml.safe_load_all((CLUSTER / name).read_text("utf-8")))


def spec_of_cluster(name: str) -> dict[str, Any]:
    spec = kuberay(name)["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def closed(node: Any) -> Any:
    """The schema with fields forbidden that it does not name: the CRDs drop them without a word."""
    if isinstance(node, list):
        return [closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    inner = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
        inner["additionalProperties"] = False
    return inner


def problems(kind: str, spec: dict[str, Any]) -> list[str]:
    schema = {**closed(CRDS[kind]), "RayCluster": closed(CRDS["RayCluster"])}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(spec)]


def check(name: str, **more: Any) -> None:
    """Check a file as `ray up` does. Files for clouds are checked without the libraries of the clouds."""
    config = {**ray_up(name), **more}
    if config["provider"]["type"] == "local":
        bootstrap_config(config, no_config_cache=True)
    else:
        jsonschema.validate(fillout_defaults(config), RAY_SCHEMA)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_accepts_its_files(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_refuses_a_misspelt_key(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(name, setup_comands=[])


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_accepts_its_manifests(name: str) -> None:
    manifest = kuberay(name)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", MANIFESTS[name])
    assert problems(MANIFESTS[name], manifest["spec"]) == []


def fields(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all keys except keys of free mappings."""
    free = {"rayStartParams", "resources", "limits", "requests", "labels", "matchLabels"}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(node, dict):
            yield (*path, key)
        if key not in free:
            yield from fields(value, (*path, key))


@pytest.mark.parametrize("name", MANIFESTS)
def test_any_misspelt_field_of_a_manifest_is_found(name: str) -> None:
    spec = kuberay(name)["spec"]
    paths = list(fields(spec))
    assert len(paths) > 60
    for *way, key in paths:
        wrong = copy.deepcopy(spec)
        node = wrong
        for step in way:
            node = node[step]
        node[f"{key}x"] = node.pop(key)
        assert problems(MANIFESTS[name], wrong), (way, key)


def start_commands(name: str) -> dict[str, str]:
    """The line that starts Ray on the head, and on workers."""
    config = ray_up(name)
    return {
        kind: next(line for line in config[f"{kind}_start_ray_commands"] if "ray start" in line)
        for kind in ("head", "worker")
    }


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_token_loopback_and_sizes(name: str) -> None:
    for kind, line in start_commands(name).items():
        assert "RAY_AUTH_MODE=token" in line
        assert re.search(r"RAY_AUTH_TOKEN_PATH=\S+/token", line)
        assert "--object-store-memory=" in line
        assert "--object-spilling-directory=" in line
        assert ("--dashboard-host=127.0.0.1" in line) == (kind == "head")


@pytest.mark.parametrize("name", MANIFESTS)
def test_kuberay_token_and_sizes(name: str) -> None:
    spec = spec_of_cluster(name)
    assert spec["authOptions"] == {"mode": "token"}
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        store = int(group["rayStartParams"]["object-store-memory"])
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        memory = container["resources"]["limits"]["memory"]
        assert store < int(memory.removesuffix("Gi")) * 2**30 / 2
        assert group["rayStartParams"]["object-spilling-directory"] in [
            mount["mountPath"] for mount in container["volumeMounts"]
        ]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_dashboards_on_kubernetes() -> None:
    """Loopback if only a port-forward connects; else a policy that only admits the operator and the submitter."""
    assert spec_of_cluster("kuberay-cluster.yaml")["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    for name in MANIFESTS:
        _, policy, *_ = yaml.safe_load_all((CLUSTER / name).read_text("utf-8"))
        labels = policy["spec"]["podSelector"]["matchLabels"].items()
        spec = spec_of_cluster(name)
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert labels <= group["template"]["metadata"]["labels"].items()
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_each_shard_has_a_group_of_one_and_a_volume_of_its_own() -> None:
    service, _, *volumes = yaml.safe_load_all((CLUSTER / "kuberay-service.yaml").read_text("utf-8"))
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    assert service["spec"]["upgradeStrategy"] == {"type": "None"}
    (application,) = config.applications
    shards = ShardSettings.model_validate(application.args).shards
    placed = {one.name: one.ray_actor_options.resources for one in application.deployments[1:]}
    assert placed == {f"shard-{n}": {f"shard_{n}": 1} for n in range(shards)}
    claimed = []
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        assert (group["minReplicas"], group["maxReplicas"]) == (1, 1)
        assert group["resources"][group["groupName"].replace("-", "_")] == "1"
        claimed += [one["persistentVolumeClaim"]["claimName"] for one in group["template"]["spec"]["volumes"][:1]]
    assert claimed == [volume["metadata"]["name"] for volume in volumes] == ["prefrec-shard-0", "prefrec-shard-1"]
    assert [volume["spec"]["accessModes"] for volume in volumes] == [["ReadWriteOncePod"]] * shards


def groups(name: str) -> tuple[float, dict[str, dict[str, float]]]:
    """CPUs of the head; resources of the groups of workers."""
    if name in KUBERAY:
        spec = spec_of_cluster(name)
        workers = {
            group["groupName"]: {k: float(v) for k, v in group["resources"].items()}
            for group in spec["workerGroupSpecs"]
        }
        return float(spec["headGroupSpec"]["rayStartParams"]["num-cpus"]), workers
    config = ray_up(name)
    types = {kind: node["resources"] for kind, node in config["available_node_types"].items()}
    return types.pop(config["head_node_type"])["CPU"], types


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", *KUBERAY])
def test_places(name: str) -> None:
    head, workers = groups(name)
    assert head == 0
    assert workers["data"]["CPU"] == workers["data"]["data"] == 16
    assert "train" not in workers["data"]
    assert workers["gpu"]["CPU"] == 0
    assert workers["gpu"]["train"] == 4


def test_only_workers_are_spot() -> None:
    for name, key in (("aws.yaml", "InstanceMarketOptions"), ("gcp.yaml", "scheduling")):
        types = ray_up(name)["available_node_types"]
        assert [kind for kind in types if key in types[kind]["node_config"]] == ["data", "gpu"]


def test_one_version_of_ray() -> None:
    texts = {path.name: path.read_text("utf-8") for path in CLUSTER.iterdir() if path.is_file()}
    tags = {tag for text in texts.values() for tag in re.findall(r"rayproject/ray:(\S+)", text)}
    assert tags == {f"{ray.__version__}-py311-gpu"}
    assert {spec_of_cluster(name)["rayVersion"] for name in MANIFESTS} == {ray.__version__}
    assert f"default]=={ray.__version__}" in texts["Dockerfile"]


def test_every_option_is_one_of_ray_start() -> None:
    known = {option for parameter in start.params for option in parameter.opts}
    lines = [line for name in RAY_UP for line in start_commands(name).values()]
    lines += [
        line
        for line in (CLUSTER / "slurm.sh").read_text("utf-8").splitlines()
        if line.strip().startswith(("start ", "ray start "))
    ]
    used = {option for line in lines for option in re.findall(r"(?<=[\s\"(])--[a-z-]+", line)}
    for name in MANIFESTS:
        spec = spec_of_cluster(name)
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            used |= {f"--{key}" for key in group["rayStartParams"]}
    assert len(used) > 10
    assert used <= known


def test_rights_on_aws_name_what_they_allow() -> None:
    """The head has a worker's rights, no action is a wildcard, and only this cluster's instances are changed."""
    worker, head = (json.loads((CLUSTER / f"aws-iam-{kind}.json").read_text("utf-8")) for kind in ("worker", "head"))
    assert all(statement in head["Statement"] for statement in worker["Statement"])
    tag = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": ray_up("aws.yaml")["cluster_name"]}}
    for statement in head["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        assert "ec2:TerminateInstances" not in actions or statement["Condition"] == tag
        assert statement["Resource"] != "*" or all(action.startswith("ec2:Describe") for action in actions)


def test_every_file_opens_with_its_commands() -> None:
    others = [CLUSTER / "slurm.sh", CLUSTER / "helm" / "values.yaml"]
    for path in [*CLUSTER.glob("*.yaml"), *CLUSTER.glob("Dockerfile*"), *others]:
        opening = path.read_text("utf-8").partition("\n\n")[0]
        assert re.search(r"^#   (mkdir|helm|docker|pip) ", opening, re.MULTILINE), path.name


def test_the_image_does_not_run_as_root_and_installs_what_changes_seldom_first() -> None:
    lines = (CLUSTER / "Dockerfile").read_text("utf-8").splitlines()
    (user,) = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert user == "1000:100"
    steps = [line.split()[0] for line in lines if line.startswith(("USER ", "COPY ", "RUN "))]
    assert steps == ["USER", "COPY", "RUN", "COPY", "COPY", "RUN"]
    first = next(line for line in lines if line.startswith("COPY "))
    assert "pyproject.toml" in first
    assert "prefrec_ray" not in first
    for name in MANIFESTS:
        spec = spec_of_cluster(name)
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert (
                group["template"]["spec"]["securityContext"].items()
                >= {"runAsNonRoot": True, "runAsUser": 1000}.items()
            )


def test_dockerfile_is_linted() -> None:
    lint("hadolint", str(CLUSTER / "Dockerfile"))


def test_slurm_script_is_linted() -> None:
    lint("shellcheck", str(CLUSTER / "slurm.sh"))


@pytest.mark.parametrize("name", RAY_UP)
def test_shell_lines_are_linted(name: str, tmp_path: Path) -> None:
    config = ray_up(name)
    keys = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    script = tmp_path / "lines.sh"
    script.write_text("#!/bin/bash\n" + "\n".join(line for key in keys for line in config.get(key, [])) + "\n")
    # SC2046: unquoted $(awk ...), which prints a number; SC1090, SC2086 as there.
    lint("shellcheck", "--exclude=SC2046,SC2086,SC2155", str(script))


def stubs(folder: Path, **scripts: str) -> dict[str, str]:
    """Return an environment whose PATH begins with programs that only print their arguments."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder.parent)}


SAY_RAY = 'printf "%s\\n" "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN_PATH" "$@"'


@pytest.mark.parametrize(("gpu", "places"), [(1, {"train": 64}), (0, {"data": 64, "train": 64})])
def test_a_host_of_your_own_offers_what_it_has(tmp_path: Path, gpu: int, places: dict[str, int]) -> None:
    env = stubs(tmp_path / "bin", ray=SAY_RAY, nproc="echo 7", **{"nvidia-smi": f"exit {1 - gpu}"})
    line = start_commands("onprem.yaml")["worker"].replace("/var/tmp", str(tmp_path))
    line = line.replace("$HOME/prefrec-venv/bin:", "")
    out = subprocess.run(
        ["bash", "-c", line], env={**env, "RAY_HEAD_IP": "10.0.0.1"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert out[:4] == ["token", f"{tmp_path}/prefrec/token", "start", "--address=10.0.0.1:6379"]
    options = dict(option.removeprefix("--").partition("=")[::2] for option in out[4:])
    assert options["num-cpus"] == ("0" if gpu else "7")
    assert json.loads(options["resources"]) == places
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert int(options["object-store-memory"]) == pytest.approx(total / 4, rel=0.02)
    assert Path(options["object-spilling-directory"]).is_dir()


def test_slurm_starts_three_parts_and_ends_with_the_status_of_its_command(tmp_path: Path) -> None:
    """Each part with a token, and with folders in folders of its own of mode 700, none of which outlives the job."""
    log, disk = tmp_path / "log", tmp_path / "disk"
    disk.mkdir()
    ray_start = f"""
    [ "$1" = start ] || exit 0
    for option; do
        case $option in --temp-dir=* | --object-spilling-directory=*) 
            mkdir -m 777 "${{option#*=}}"  # as Ray does
            around="${{around-}} $(dirname "${{option#*=}}")"
        ;; esac
    done
    echo "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH" $around | paste -sd,) $PART $*" >> {log}
    exec sleep 600
    """
    env = stubs(
        tmp_path / "bin",
        srun='export PART=$1; shift; exec "$@"',
        scontrol="echo first; echo second",
        ray=ray_start,
        # The parts start in the background.
        prefrec=f'until [ "$(grep -c token {log})" = 3 ]; do sleep 0.05; done; '
        f'echo "prefrec $RAY_ADDRESS $*" >> {log}; exit 7',
        openssl="echo 0123",
    )
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sh"), "my.yaml", "tune", "--output", "/shared/runs/my run"],
        env={
            **env,
            "SLURM_JOB_ID": "1234567",
            "SLURM_JOB_NODELIST_HET_GROUP_0": "first",
            "SLURM_TMPDIR": str(disk),
        },
        timeout=60,
    )
    assert done.returncode == 7
    lines = sorted(log.read_text().splitlines())
    assert lines[0] == "prefrec first:24567 tune my.yaml --output /shared/runs/my run"
    assert [line.split()[:3] for line in lines[1:]] == [
        ["token", "600,700,700", f"--het-group={part}"] for part in range(3)
    ]
    assert "--port=24567 --num-cpus=0 --dashboard-host=127.0.0.1" in lines[1]
    assert ["--head" in line for line in lines[1:]] == [True, False, False]
    assert all("--address=first:24567" in line for line in lines[2:])
    folders = re.findall(r"(?:--temp-dir|--object-spilling-directory)=(\S+)", "\n".join(lines))
    assert len(set(folders)) == 6
    assert [Path(folder).parents[1] for folder in folders] == [Path("/tmp"), disk] * 3
    assert not any(Path(folder).parent.exists() for folder in folders), "a folder outlives the job"
    assert not list((tmp_path / ".prefrec").glob("*")), "the token outlives the job"
