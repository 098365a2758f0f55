"""From a Keras model to verified files for a device."""
