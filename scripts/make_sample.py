"""Make the collection that ships with tokret from the whole of SciFact.

Keeps evenly spaced judged test queries, all documents judged relevant to one of them, and the
documents that BM25 ranks best for them, rank by rank, as distractors. Nothing is drawn at
random: the same input gives the same bytes.

    python scripts/make_sample.py ../shared/data/scifact tokret/collections/sample
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import bm25s
import Stemmer

from tokret.collections import load_collection
from tokret.types import Document

QUERIES = 80
DOCUMENTS = 400
NOTICE = """\
This folder is a part of SciFact, in the layout of BEIR: {queries} claims of the test split with
their judgements, and {documents} abstracts.

SciFact
  David Wadden, Shanchuan Lin, Kyle Lo, Lucy Lu Wang, Madeleine van Zuylen, Arman Cohan,
  Hannaneh Hajishirzi: Fact or Fiction: Verifying Scientific Claims. EMNLP 2020.
  https://github.com/allenai/scifact
  Made by the Allen Institute for AI.

Licences
  Claims and judgements (queries.jsonl, qrels/test.tsv): Creative Commons Attribution 4.0,
  https://creativecommons.org/licenses/by/4.0/
  Abstracts (corpus.jsonl.gz), from the Semantic Scholar Open Research Corpus: Open Data
  Commons Attribution 1.0, https://opendatacommons.org/licenses/by/1-0/

Changes
  Of the test claims {queries} were kept, evenly spaced; of the abstracts, those judged relevant to
  one of them and those that BM25 ranks best for them. Titles, texts, ids and judgements are
  as they were; other fields were left out. Scores on this part must not be compared with
  scores on the whole of SciFact.
"""


def chosen_documents(documents: list[Document], queries: list[str], keep: set[str]) -> set[str]:
    """``keep`` and the best BM25 hits of every query, a rank at a time, until there are enough."""
    stemmer = Stemmer.Stemmer("english")
    texts = [document.contents for document in documents]
    index = bm25s.BM25()
    index.index(
        bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False),
        show_progress=False,
    )
    hits, _ = index.retrieve(
        bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, show_progress=False),
        k=50,
        show_progress=False,
    )
    chosen = set(keep)
    for row in hits.T:  # all first hits, then all second hits, and so on
        for i in row:
            if len(chosen) == DOCUMENTS:
                return chosen
            chosen.add(documents[int(i)].doc_id)
    raise SystemExit(f"Only {len(chosen)} documents found; wanted {DOCUMENTS}.")


def json_line(**fields: str) -> str:
    """One object a line, its text as it is."""
    return json.dumps(fields, ensure_ascii=False) + "\n"


def main() -> None:
    """Read SciFact, write the sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scifact", type=Path, help="SciFact as a BEIR folder")
    parser.add_argument("out", type=Path, help="folder to write")
    args = parser.parse_args()

    whole = load_collection(args.scifact, "test")
    queries = [whole.queries[i * len(whole.queries) // QUERIES] for i in range(QUERIES)]
    qrels = {query.query_id: whole.qrels[query.query_id] for query in queries}
    documents = list(whole.documents())
    relevant = {doc_id for judged in qrels.values() for doc_id in judged}
    chosen = chosen_documents(documents, [query.text for query in queries], relevant)

    (args.out / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = "".join(
        json_line(_id=document.doc_id, title=document.title, text=document.text)
        for document in documents
        if document.doc_id in chosen
    )
    packed = gzip.compress(corpus.encode(), compresslevel=9, mtime=0)
    (args.out / "corpus.jsonl.gz").write_bytes(packed)
    (args.out / "queries.jsonl").write_text(
        "".join(json_line(_id=query.query_id, text=query.text) for query in queries), "utf-8"
    )
    rows = [f"{q}\t{d}\t{grade}\n" for q, judged in qrels.items() for d, grade in judged.items()]
    (args.out / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(rows), "utf-8"
    )
    (args.out / "NOTICE").write_text(
        NOTICE.format(queries=len(queries), documents=len(chosen)), "utf-8"
    )
    print(
        json.dumps(
            {
                "queries": len(queries),
                "documents": len(chosen),
                "relevant": len(relevant),
                "judgements": len(rows),
                "corpus_bytes": len(packed),
            }
        )
    )


if __name__ == "__main__":
    main()
