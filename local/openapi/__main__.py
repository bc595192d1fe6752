"""Write the OpenAPI documents anew: `python -m local.openapi`."""

from local.openapi.files import main

if __name__ == "__main__":
    main()
