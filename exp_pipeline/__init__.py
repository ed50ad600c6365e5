"""An experimentation pipeline for LLM learning products: events in, decision memos out."""
