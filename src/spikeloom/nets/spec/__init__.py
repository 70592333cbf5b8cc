"""Networks as data: specs of layers and nets, their text form and tables, and presets."""
