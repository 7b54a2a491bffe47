"""The atlas of published numbers: each with the place where it was read, and their contradictions.

`numbers` reads the table, `best_numbers` chooses those to print beside ours, `contradictions` lists
where sources disagree, with likely reasons and their size on our own maps, `charts` draws that, and
`page` writes the table as one HTML file. README.md says what was read, and how a row is added.
"""
