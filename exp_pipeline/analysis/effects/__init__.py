"""From metrics and arms to rows of estimates."""
