"""What a run says about itself: `log.jsonl` is the truth; the status line and other logs repeat it."""
