"""Who is who, who sat in which class, and who must be forgotten."""
