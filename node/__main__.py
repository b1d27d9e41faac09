"""`python -m node` is `text2image-node`."""

from node.cli import main

if __name__ == "__main__":
    main()
