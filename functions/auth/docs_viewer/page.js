"use strict";
// An operation's button holds a link to it in Swagger UI; one control in another reads badly aloud, so text it is.
const plainPath = ({ React }) => ({ wrapComponents: { DeepLink: () => ({ text }) => React.createElement("span", null, text) } });

// Lists of choice have no name there, and one id stands twice.
function name() {
  for (const select of document.querySelectorAll("#viewer select:not([aria-label])")) {
    const what = select.id === "servers" ? "Server" : select.closest(".examples-select") ? "Example" : "Choice";
    select.setAttribute("aria-label", what);
  }
  for (const label of document.querySelectorAll("#viewer label[id$='_select']")) label.removeAttribute("id");
}

const viewer = document.getElementById("viewer");
new MutationObserver(name).observe(viewer, { childList: true, subtree: true });

SwaggerUIBundle({
  url: "/v1/openapi.json",
  dom_id: "#viewer",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [plainPath],
  layout: "BaseLayout",
  validatorUrl: null,
  deepLinking: true,
  filter: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
});
