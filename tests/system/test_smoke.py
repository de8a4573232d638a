"""One message through the real processes."""

import smtplib

from system.server import server


def test_a_message_arrives_as_it_was_sent(tmp_path):
    with server(tmp_path / "s") as running:
        with smtplib.SMTP("127.0.0.1", running.port) as client:
            client.sendmail("x@example.net", ["ada@example.org"], b"Subject: hi\r\n\r\nhello\r\n")
        running.wait_for(lambda: running.delivered("ada"), "delivery")
        (message,) = running.delivered("ada")
        assert message.endswith(b"Subject: hi\n\nhello\n")
        assert running.stop() == 0
