import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from nearhit.encoder.artefact import ensure_artefact
from nearhit.encoder.files import sha256_file
from nearhit.encoder.recipe import VERIFIER_FILE
from nearhit.encoder.session import open_session
from nearhit.errors import ConfigError
from nearhit.verifier.runtime import logits
from nearhit.verifier.weights import read_description
from nearhit_training import (
    calibrate,
    cli,
    cross_encoder,
    data,
    evaluate,
    lora,
    mixture,
    network,
    shrink,
    split,
    verifier,
)
from nearhit_training.data import Group, Pair
from nearhit_training.embed import open_tokenizer

# Libraries' own notices about their next versions.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WORDS = "how do i reset enable disable my the a phone router password in on not two three"


def a_group(number: int, topic: str | None = None, domain: str = "general") -> Group:
    rng = random.Random(number)
    word = f"thing{number}"
    other = rng.choice(["two", "three", "not"])
    return Group(
        id=f"g-{number:03d}",
        domain=domain,
        topic=topic or word,
        query=f"how do i reset my {word}",
        paraphrases=(f"reset the {word} how", f"i reset {word} how do"),
        near_misses=(f"how do i disable my {word}", f"how do i reset {other} {word}"),
        part=domain,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, and a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("base")
    # BERT's [SEP] is 102, which the cross-encoder relies on.
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]"]
    words += [*WORDS.split(), *(f"thing{i}" for i in range(60))]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    sep, cls = words.index("[SEP]"), words.index("[CLS]")
    assert sep == network.SEP
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def groups_file(tmp_path: Path) -> Path:
    path = tmp_path / "groups.jsonl"
    rows = []
    for number in range(50):
        group = a_group(number)
        row: dict[str, Any] = {"id": group.id, "domain": group.domain, "topic": group.topic}
        row["query"] = group.query
        row["paraphrases"] = list(group.paraphrases)
        row["near_misses"] = [{"text": t, "kind": "entity"} for t in group.near_misses]
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows))
    return path


def test_split_keeps_a_topic_on_one_side_whatever_its_case_and_order_of_words() -> None:
    groups = [a_group(n, topic=("Sleep apnoea", "apnoea, sleep")[n % 2]) for n in range(30)]

    made = split.split_groups(groups, seed=1)

    assert sorted(map(len, (made.train, made.dev, made.test))) == [0, 0, 30]


def test_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    groups = [a_group(n) for n in range(50)]

    assert split.split_groups(groups, 1).digests() == split.split_groups(groups, 1).digests()
    assert split.split_groups(groups, 1).digests() != split.split_groups(groups, 2).digests()


def test_split_moves_no_group_when_others_are_added() -> None:
    few = split.split_groups([a_group(n) for n in range(30)], 3)
    more = split.split_groups([a_group(n) for n in range(50)], 3)

    assert {g.id for g in few.test} <= {g.id for g in more.test}


def test_split_that_was_saved_is_refused_for_groups_that_changed(
    tmp_path: Path, groups_file: Path
) -> None:
    out = tmp_path / "split.json"
    assert split.main(["--groups", str(groups_file), "--out", str(out)]) == 0
    changed = [a_group(n) for n in range(49)] + [a_group(49, domain="law")]
    assert split.read_split(out, changed).seed == 7
    others = [*changed[:-1], Group("g-049", "law", "t", "q", ("p",), ("n",))]

    with pytest.raises(ConfigError, match="split them again"):
        split.read_split(out, others)


def test_training_on_a_held_out_text_is_refused_whatever_its_case() -> None:
    with pytest.raises(ConfigError, match="got 1 in both"):
        data.refuse_held_out(["How do I reset it?", "other"], ["how do i RESET it"])


def test_pairs_with_a_held_out_text_are_left_out() -> None:
    pairs = [Pair("a b", "c", 1, "x"), Pair("d", "e", 0, "x")]

    assert data.without_held_out(pairs, ["A, b!"]) == [pairs[1]]


def test_groups_with_one_id_twice_are_refused(groups_file: Path) -> None:
    groups_file.write_text(groups_file.read_text() + "\n" + groups_file.read_text())

    with pytest.raises(ConfigError, match="an id of its own"):
        data.read_groups(groups_file)


def test_a_row_that_is_not_a_group_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": "1", "domain": "law"}')

    with pytest.raises(ConfigError, match="without 'topic'"):
        data.read_groups(tmp_path)


def test_noise_leaves_numbers_as_they_are() -> None:
    for seed in range(200):
        noisy = data.add_noise("Is 500mg ibuprofen safe with v1.2.3?", random.Random(seed)).lower()

        assert "500mg" in noisy
        assert "v1.2.3" in noisy


def test_recall_counts_pairs_of_equal_value_together() -> None:
    values = np.array([0.9, 0.8, 0.8, 0.1])
    truth = np.array([True, True, False, False])

    assert evaluate.recall_at(values, truth, 0.01) == 0.5
    assert evaluate.recall_at(values, truth, 0.4) == 1.0


def test_measure_of_values_that_tell_nothing_is_an_auc_of_half_and_no_separation() -> None:
    quality = evaluate.measure([0.5] * 4, [1, 0, 1, 0])

    assert quality.auc == 0.5
    assert quality.separation == 0.0
    assert quality.recall[0.01] == 0.0


def test_cross_encoder_that_is_untrained_gives_the_line_of_the_cosine(base: Path) -> None:
    model = network.new_verifier(base, rank=2, scale=4.0, shift=-1.0).eval()
    ids = torch.tensor([[101, 103, 102, 104, 105, 102]])
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])

    logit = model(ids, types, torch.ones_like(ids), torch.tensor([0.5]))

    assert logit.item() == pytest.approx(1.0)


def test_cross_encoder_gives_a_pair_the_same_logit_alone_as_padded(base: Path) -> None:
    model = network.new_verifier(base, rank=2, scale=1.0, shift=0.0).eval()
    torch.nn.init.normal_(model.out.weight)
    ids = torch.tensor([[101, 103, 102, 104, 105, 102]])
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])
    padding = torch.zeros((1, 3), dtype=torch.long)

    alone = model(ids, types, torch.ones_like(ids), torch.tensor([0.5]))
    padded = model(
        torch.cat([ids, padding], 1),
        torch.cat([types, padding], 1),
        torch.cat([torch.ones_like(ids), padding], 1),
        torch.tensor([0.5]),
    )

    assert padded.item() == pytest.approx(alone.item(), abs=1e-4)


def test_cross_encoder_goes_on_from_its_checkpoint(base: Path, tmp_path: Path) -> None:
    tokenizer = open_tokenizer(base, 128)
    rng = random.Random(0)
    pairs = [p for n in range(20) for p in data.training_pairs(a_group(n), (2, 2), rng)]
    examples = [cross_encoder.Example(pair, 0.5 + 0.2 * pair.label) for pair in pairs]
    checks = {"x": examples[:8]}

    def train(steps: int, out: Path, resume: bool) -> list[dict[str, float]]:
        config = cross_encoder.VerifierConfig(rank=2, steps=steps, batch=8, check_every=2)
        cross_encoder.train(examples, checks, base, tokenizer, out, config, resume=resume)
        return list(json.loads((out / "curve.json").read_text()))

    train(2, tmp_path / "a", resume=False)
    assert [p["step"] for p in train(4, tmp_path / "a", resume=True)] == [2, 4]


def test_lora_writes_an_adapter_that_peft_loads_and_its_run(
    base: Path, groups_file: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    split.main(["--groups", str(groups_file), "--out", str(tmp_path / "split.json")])
    out = tmp_path / "adapter"
    argv = ["--groups", str(groups_file), "--split", str(tmp_path / "split.json")]

    assert lora.main([*argv, "--out", str(out), "--base", str(base), "--threads", "1"]) == 0

    PeftModel.from_pretrained(BertModel.from_pretrained(base, add_pooling_layer=False), out)
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["recipe"] == "best"
    assert set(run["sha256"]) == {"train", "dev", "test"}
    assert (out / "curve.png").stat().st_size > 1000


def test_lora_reference_on_the_shape_of_l12_has_the_published_number_of_parameters(
    tmp_path: Path,
) -> None:
    shape = BertConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(shape, add_pooling_layer=False).save_pretrained(tmp_path / "l12")

    model = lora.adapted(tmp_path / "l12", lora.AdapterConfig("reference"))
    model.save_pretrained(tmp_path / "adapter")

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 147_456
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert 590_000 < size < 600_000


def test_lora_of_an_unknown_recipe_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of reference, best"):
        lora.train([], [], base, tmp_path, lora.AdapterConfig("better"))


def test_verifier_goes_from_groups_to_a_served_artefact(
    base: Path, groups_file: Path, tmp_path: Path
) -> None:
    kept, out = tmp_path / "split.json", tmp_path / "verifier"
    shared = ["--groups", str(groups_file), "--split", str(kept), "--base", str(base)]
    split.main(["--groups", str(groups_file), "--out", str(kept)])
    assert verifier.main([*shared, "--out", str(tmp_path / "cross"), "--steps", "4"]) == 0
    argv = ["--checkpoint", str(tmp_path / "cross" / "checkpoint.pt"), "--base", str(base)]
    assert shrink.main([*argv, "--out", str(out)]) == 0
    data_dir = ["--data-dir", str(tmp_path / "data")]
    assert calibrate.main([*shared, *data_dir, "--verifier", str(out)]) == 0

    artefact = ensure_artefact(tmp_path / "data", base=str(base), verifier=out)
    description = read_description(artefact.path)
    assert description.encoder == artefact.manifest.inputs
    session = open_session(artefact.path / VERIFIER_FILE, 1)
    tokenizer = open_tokenizer(base, 128)
    pair = ("how do i reset my thing1", "thing1 how do i reset")
    row = tokenizer.encode_batch([pair])[0]
    served = logits(session, [row], [0.7])[0]

    model = network.new_verifier(base, 0, 1.0, 0.0).eval()
    saved = torch.load(tmp_path / "cross" / "checkpoint.pt", weights_only=False)
    model.load_state_dict(saved["trained"], strict=False)
    with torch.inference_mode():
        trained = model(*cross_encoder.batch_of([pair], [0.7], tokenizer)).item()
    assert served == pytest.approx(trained, abs=0.02)


def test_verifier_goes_on_from_one_that_ships(
    base: Path, groups_file: Path, tmp_path: Path
) -> None:
    kept, shipped = tmp_path / "split.json", tmp_path / "shipped"
    shared = ["--groups", str(groups_file), "--split", str(kept), "--base", str(base)]
    split.main(["--groups", str(groups_file), "--out", str(kept)])
    verifier.main([*shared, "--out", str(tmp_path / "cross"), "--steps", "4"])
    argv = ["--checkpoint", str(tmp_path / "cross" / "checkpoint.pt"), "--base", str(base)]
    shrink.main([*argv, "--out", str(shipped)])
    begun = network.new_verifier(base, 0, 1.0, 0.0).eval()
    network.load_shipped(begun, base, shipped)
    saved = torch.load(tmp_path / "cross" / "checkpoint.pt", weights_only=False)
    trained = network.new_verifier(base, 0, 1.0, 0.0).eval()
    trained.load_state_dict(saved["trained"], strict=False)
    given = cross_encoder.batch_of(
        [("reset my thing1", "my thing2")], [0.7], open_tokenizer(base, 128)
    )
    with torch.inference_mode():
        assert begun(*given).item() == pytest.approx(trained(*given).item(), abs=0.02)

    on = ["--out", str(tmp_path / "on"), "--steps", "2", "--start", str(shipped), "--bf16", "1"]
    assert verifier.main([*shared, *on]) == 0

    run = json.loads((tmp_path / "on" / "run.json").read_text())
    assert run["start"] == sha256_file(shipped / "verifier.safetensors")


def test_exchanged_words_make_negatives_of_the_same_words_and_positives_of_the_same_text() -> None:
    texts = [f"can my landlord{n} really charge the tenant{n} twice" for n in range(60)]
    texts += ["compare apples and oranges"] * 20  # only a conjunction between them

    pairs = mixture.exchanged_pairs([], texts, 80, random.Random(3))

    assert {pair.label for pair in pairs} == {0, 1}
    for pair in pairs:
        assert "apples" not in pair.a
        if not pair.label:
            assert sorted(pair.a.split()) == sorted(pair.b.split())
            assert pair.a != pair.b


def test_cli_names_the_nearest_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verifyer"]) == 2
    assert "did you mean verifier" in capsys.readouterr().err


def test_cli_says_what_is_wrong_and_returns_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["split", "--groups", str(tmp_path), "--out", "x"]) == 1
    assert "check the path" in capsys.readouterr().err
