"""May the effects be believed?"""
