// The videos below stand in the order of the table, whichever column it was sorted by.
const list = document.querySelector(".videos");
document.querySelector("#order thead").addEventListener("click", () => {
  for (const link of document.querySelectorAll("#order tbody a")) {
    list.append(document.getElementById(link.hash.slice(1)));
  }
});
