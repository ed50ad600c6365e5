"""Tests that come before effects, or stop them: sample ratio and guardrails."""
