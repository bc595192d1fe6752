"""The platform's floor: a function that does nothing."""

import functions_framework


@functions_framework.http
def hello(request):
    return {"message": "hello"}
