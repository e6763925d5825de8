"""A message centre to try SMPP with: `hermes smsc`, and the other side of our own tests.

It knows nothing of the ESME in `carriers/smpp/session.py`: only the codec is shared.

    async with Smsc(SmscSettings(accounts={"hermes": "secret"})) as smsc:
        ...  # bind to 127.0.0.1, smsc.port
        await smsc.wait_for_messages(1)
"""

from hermes.smsc.server import Smsc
from hermes.smsc.settings import SmscSettings

__all__ = ["Smsc", "SmscSettings"]
