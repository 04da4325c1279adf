#pragma once
// How the library reports. It never prints and never asks a terminal: it calls an observer, which the program
// implements with a console and a server with its own means (events of a response, "no" to every question).

#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "fetch/fetch.h"
#include "library/signature_report.h"
#include "verify/verify.h"

namespace sluice::library {

/// All functions are called by the thread that called the library, except those of progress(), which any
/// thread calls.
class Observer {
 public:
  virtual ~Observer() = default;

  /// Something the user should know, in one sentence.
  virtual void on_warning(std::string_view message) = 0;
  /// A decision that the library took, such as the references that it found, in one sentence.
  virtual void on_note(std::string_view message) = 0;

  /// A signature was verified. When the file is refused because of it, the Error follows.
  virtual void on_signature(const SignatureReport& report) = 0;
  /// The damage that a repair is about to write anew.
  virtual void on_damage(const verify::Report& report) = 0;
  /// A repair has ended; the files are verified once more after it.
  virtual void on_repair(const fetch::RepairResult& result) = 0;

  /// A yes/no question to a person, and in lines what the person must know to answer it. False when nobody is
  /// there.
  [[nodiscard]] virtual bool confirm(const std::vector<std::string>& explanation,
                                     std::string_view question) = 0;

  /// Progress of work on files and of work with peers. Both live as long as the observer.
  [[nodiscard]] virtual base::Progress& progress() = 0;
  [[nodiscard]] virtual fetch::FetchObserver& fetch_progress() = 0;
  /// The work that progress() or fetch_progress() showed has ended.
  virtual void on_work_end() = 0;
};

}  // namespace sluice::library
