"""What a painted picture is worth: exact scores where the truth is known, the field's scores with protocols."""
