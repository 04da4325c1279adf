#pragma once
// convert --calibrate: the release as a q8 container beside the output, run on a text layer by layer while
// the conversion goes on, and removed in the end.

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "cli/commands.h"
#include "convert/convert.h"
#include "runtime/runtime.h"

namespace sluice::cli {

class CalibrationRun final {
 public:
  /// Makes the q8 container and sets request.calibration, which lives as long as this does.
  CalibrationRun(const std::filesystem::path& text, convert::Request& request, base::Progress& progress,
                 const Invocation& invocation);
  ~CalibrationRun();
  CalibrationRun(const CalibrationRun&) = delete;
  CalibrationRun& operator=(const CalibrationRun&) = delete;

 private:
  void make_container(const convert::Request& request, base::Progress& progress,
                      const Invocation& invocation);

  std::filesystem::path container_;
  std::optional<runtime::Model> model_;
  std::optional<runtime::Calibrator> calibrator_;
};

}  // namespace sluice::cli
