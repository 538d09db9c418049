"""What a trained network says of videos that need no shards."""
