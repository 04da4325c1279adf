#include "cli/library_observer.h"

#include <string>

#include "base/text.h"
#include "cli/environment.h"
#include "cli/report.h"
#include "cli/terminal.h"

namespace sluice::cli {

void LibraryObserver::on_signature(const library::SignatureReport& report) {
  // People see the outcome elsewhere: as a note, in the result, or in the Error that refuses the file.
  console_.event(format::Json::object({{"event", "signature"}, {"signature", signature_json(report)}}));
}

/// The damage is printed before the repair starts, which can take hours and overwrites the evidence.
void LibraryObserver::on_damage(const verify::Report& report) { print_damage(report, console_); }

void LibraryObserver::on_repair(const fetch::RepairResult& result) {
  console_.event(format::Json::object({{"event", "repair"},
                                       {"downloaded_bytes", result.downloaded_bytes},
                                       {"written_bytes", result.written_bytes}}));
  console_.print("repaired: " + base::to_human_bytes(result.downloaded_bytes) + " fetched, " +
                 base::to_human_bytes(result.written_bytes) + " written; proving it again");
}

bool LibraryObserver::confirm(const std::vector<std::string>& explanation, std::string_view question) {
  // With --json or without a terminal nobody sees the question: the safe answer is no.
  if (!can_ask(console_)) return false;
  for (const std::string& line : explanation) console_.note(line);
  return ask_yes_no(console_, std::string(question));
}

LibraryAccess::LibraryAccess(const Invocation& invocation)
    : folders_(library_folders()),
      observer_(invocation.console),
      context_{folders_, observer_, invocation.stop} {}

}  // namespace sluice::cli
