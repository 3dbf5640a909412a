// Keys of every page; written in full with the post page.
