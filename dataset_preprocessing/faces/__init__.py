"""What the pipelines of faces and cats share: crops, cameras, mirror images, restartable steps."""
