SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // No layout may show the badge for which the document's address goes to a validator on the internet.
  validatorUrl: null,
});
