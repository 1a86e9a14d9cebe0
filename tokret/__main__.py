"""``python -m tokret`` is the tokret command."""

from tokret.cli import main

if __name__ == "__main__":
    main()
