"""Tiny random models in each layout on disk that sentence-transformers' world knows."""

import json
import shutil
import string

import pytest

TEXTS = [
    "The quick brown fox, jumps over the lazy dog.",
    "Paris is the capital of France",
    "Late interaction keeps one vector a token!",
    "İstanbul 漢字 😀 e\u0301tude",
]
HIDDEN, WIDTH, LONGEST = 16, 8, 64
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_bert(folder):
    """A BERT and a word piece tokenizer, trained on the texts above."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=[*SPECIAL, *string.punctuation], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **named)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast) + 2,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
    )
    BertModel(config).save_pretrained(folder)
    return fast


def dense():
    import torch
    from sentence_transformers.base.modules import Dense

    torch.manual_seed(1)
    return Dense(
        HIDDEN, WIDTH, bias=False, activation_function=None, module_input_name="token_embeddings"
    )


def save_native(folder, **reader):
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    save_bert(folder / "base")
    modules = [
        Transformer(str(folder / "base"), document_length=20, **reader),
        dense(),
        MultiVectorMask([".", ","]),
        Normalize("token_embeddings"),
    ]
    prompts = {"query": "search: ", "document": "passage: "}
    MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu").save_pretrained(str(folder))
    shutil.rmtree(folder / "base")


def save_pylate(folder):
    fast = save_bert(folder)
    fast.add_tokens(["[Q] ", "[D] "])
    fast.save_pretrained(folder)
    dense().save(make(folder / "1_Dense"))
    config = json.loads((folder / "1_Dense/config.json").read_text())
    del config["module_input_name"], config["module_output_name"]  # PyLate knows none
    write(folder / "1_Dense/config.json", config)
    st = "sentence_transformers.models.Transformer"
    types = [("", st), ("1_Dense", "pylate.models.Dense.Dense")]
    listed = [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(types)]
    write(folder / "modules.json", listed)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 31, "do_lower_case": False})
    config = {
        "model_type": "ColBERT",
        "prompts": {},
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 16,
        "document_length": 24,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }
    write(folder / "config_sentence_transformers.json", config)


def save_stanford(folder):
    from safetensors.torch import load_file, save_file

    save_bert(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {f"bert.{key}": value for key, value in weights.items()}
    weights["linear.weight"] = dense().linear.weight.detach().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 16,
        "doc_maxlen": 24,
        "mask_punctuation": True,
    }
    write(folder / "artifact.metadata", metadata)


def save_xtr(folder):
    import torch
    from safetensors.torch import save_file
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([text.lower() for text in TEXTS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(fast),
        d_model=HIDDEN,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    T5EncoderModel(config).save_pretrained(folder)
    head = make(folder / "2_Dense")
    save_file({"linear.weight": dense().linear.weight.detach().clone()}, head / "model.safetensors")
    identity = "torch.nn.modules.linear.Identity"
    sizes = {"in_features": HIDDEN, "out_features": WIDTH, "bias": False}
    write(head / "config.json", {**sizes, "activation_function": identity})


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(path, value):
    path.write_text(json.dumps(value), "utf-8")


EXPANSION = {"strategy": "fixed", "length": 12, "attend": False}
SAVERS = {
    "plain": lambda folder: save_bert(folder),
    "native": save_native,
    "expanding": lambda folder: save_native(folder, query_expansion=EXPANSION),
    "pylate": save_pylate,
    "stanford": save_stanford,
    "xtr": save_xtr,
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folders of models, by layout; skips without the extra [st]."""
    pytest.importorskip("sentence_transformers", minversion="6.0")
    root = tmp_path_factory.mktemp("models")
    for name, save in SAVERS.items():
        save(make(root / name))
    return root
