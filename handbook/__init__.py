"""What the packages have beside the programs: man pages, completions, Debian's changelog, the licences of libraries.

Written when the packages are built, and not installed itself. Options, subcommands and configuration keys come from the
programs, so nothing here can say otherwise; what no parser knows (files, what a removal leaves) is written in `pages/`.
"""
