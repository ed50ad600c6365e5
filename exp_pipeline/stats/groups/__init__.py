"""Effects in several groups or periods at once: do they differ, and what is each beside the others?"""
