"""Every node test of the onnx package: see corpus.py."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

Facts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of each model."""
    results = tmp_path_factory.mktemp("corpus") / "facts.jsonl"
    script = Path(__file__).with_name("corpus.py")
    outcome = subprocess.run([sys.executable, str(script), str(results)], capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    facts: Facts = defaultdict(dict)
    for line in results.read_text().splitlines():
        model, fact, value = json.loads(line)
        facts[model][fact] = value
    return facts


def test_models_are_parsed_and_only_migraphx_parser_dies(corpus: Facts, request: pytest.FixtureRequest) -> None:
    parsed = [facts for facts in corpus.values() if "parsed" in facts]
    died = {model: list(facts) for model, facts in corpus.items() if "done" not in facts}
    counts = Counter(str(facts.get("folded", "not parsed")).split(":")[0] for facts in corpus.values())
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{len(corpus)} models, {len(parsed)} parsed, MIGraphX died of {len(died)}; folded: {dict(counts)}")
    assert len(parsed) > 1000
    assert all(facts == ["begun"] for facts in died.values()), died
    assert len(died) < 20


def test_every_program_is_written_as_it_was_read(corpus: Facts) -> None:
    changed = {model: facts for model, facts in corpus.items() if facts.get("exact") is False}
    assert all(facts["repaired"] for facts in changed.values()), changed
    assert len(changed) < 10


def test_every_program_loads_and_equals_the_parsed_one(corpus: Facts) -> None:
    unequal = [m for m, facts in corpus.items() if facts.get("exact") and not facts.get("equal")]
    assert not unequal


def test_folding_changes_no_bit(corpus: Facts) -> None:
    outcomes = [facts.get("folded") for facts in corpus.values()]
    assert [model for model, facts in corpus.items() if facts.get("folded") == "different"] == []
    assert outcomes.count("same") > 900


def test_most_models_are_a_constant_where_their_inputs_are(corpus: Facts) -> None:
    left = Counter(name for facts in corpus.values() for name in facts.get("left", ()))
    assert sum(facts.get("left") == [] for facts in corpus.values()) > 850
    assert not left.keys() & {"add", "concat", "gather", "pad", "reduce_sum", "softmax", "pooling"}, left
