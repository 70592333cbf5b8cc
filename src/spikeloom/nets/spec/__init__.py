"""Networks as data: layers, nets, their text and table forms, presets."""
