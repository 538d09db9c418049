"""From TFRecord shards to batches. The only package of cmav that imports TensorFlow."""
