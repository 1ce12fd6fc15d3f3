"""The commands of ``sightline``; what each imports it imports when it is called, so that --help is quick."""
