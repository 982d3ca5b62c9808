"""The methods of an EasyEdit clone as rows of a comparison."""
