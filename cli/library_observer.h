#pragma once
// The library on the console: its progress, its warnings and its questions.

#include <string_view>

#include "cli/commands.h"
#include "cli/fetch_observer.h"
#include "cli/progress_line.h"
#include "library/library.h"

namespace sluice::cli {

class LibraryObserver final : public library::Observer {
 public:
  explicit LibraryObserver(Console& console) : console_(console), line_(console), fetch_(console) {}

  void on_warning(std::string_view message) override { console_.warn(message); }
  void on_note(std::string_view message) override { console_.note(message); }
  void on_signature(const library::SignatureReport& report) override;
  void on_damage(const verify::Report& report) override;
  void on_repair(const fetch::RepairResult& result) override;
  [[nodiscard]] bool confirm(const std::vector<std::string>& explanation, std::string_view question) override;
  [[nodiscard]] base::Progress& progress() override { return line_; }
  [[nodiscard]] fetch::FetchObserver& fetch_progress() override { return fetch_; }
  void on_work_end() override { console_.clear_status(); }

 private:
  Console& console_;
  ProgressLine line_;
  FetchObserver fetch_;
};

/// One command passes these to the library: the user's folders, its console and its stop token.
class LibraryAccess final {
 public:
  explicit LibraryAccess(const Invocation& invocation);
  LibraryAccess(const LibraryAccess&) = delete;
  LibraryAccess& operator=(const LibraryAccess&) = delete;

  [[nodiscard]] const library::Context& context() const { return context_; }
  [[nodiscard]] const library::Folders& folders() const { return folders_; }

 private:
  library::Folders folders_;
  LibraryObserver observer_;
  library::Context context_;  // refers to both
};

}  // namespace sluice::cli
