"use strict";

// Why a note was closed that this tab has shown; and that once.
const reason = document.getElementById("reason");
reason.textContent = sessionStorage.getItem("reason") || "";
reason.hidden = reason.textContent === "";
sessionStorage.removeItem("reason");
