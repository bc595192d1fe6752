"""The edge to the SMS provider: one text message through Twilio's Messages API."""

from common import log, secrets, tracing
from common.settings import settings

ANSWER_SECONDS = (4, 8)  # to connect, to answer: together less than a message's claim
OUR_FAULT = frozenset({401, 403, 404, 429})  # credentials, account, rate: the number may be right


class NotSent(Exception):
    """The provider could not be reached or did not take the message for now."""


class Undeliverable(Exception):
    """The provider refuses the number for good."""


@tracing.traced("sms")
def send(to: str, text: str) -> None:
    """Hand the message over; `to` is a number in E.164. Raises NotSent or Undeliverable; returning means it was taken.

    Source: https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource
    """
    import requests  # noqa: PLC0415 - only where it is used

    account, token = (secrets.read(name).decode().strip() for name in ("sms-account", "sms-token"))
    url = f"{settings().sms_endpoint}/2010-04-01/Accounts/{account}/Messages.json"
    form = {"To": to, "From": settings().sms_from, "Body": text}
    try:
        answer = requests.post(url, data=form, auth=(account, token), timeout=ANSWER_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise NotSent(type(error).__name__) from error
    if answer.status_code == requests.codes.created:
        return
    if answer.status_code in OUR_FAULT or not 400 <= answer.status_code < 500:
        log.entry("ERROR", "the SMS provider did not take a message", status=answer.status_code)
        raise NotSent(f"status {answer.status_code}")
    raise Undeliverable
