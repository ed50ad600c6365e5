"""Tests of the room that writes memos."""
