"""From media files to clips: which files, their streams, their pictures and samples of the same moments."""
