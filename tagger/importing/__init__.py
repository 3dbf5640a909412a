"""Makes release folders of taggers that others published: python -m tagger import KIND --from FOLDER --out RELEASE."""
