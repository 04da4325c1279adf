// Calibrating needs the inputs of each expert, and only a model that runs has them. The released checkpoint
// is converted to q8 first, which is close enough and half the size; runtime::Calibrator then runs it one
// layer at a time, in step with the q4 conversion, so that one layer's statistics are in memory.

#include "cli/calibration_run.h"

#include <system_error>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/part_file.h"
#include "cli/environment.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kTextBytesMax = 1u << 30;

}  // namespace

CalibrationRun::CalibrationRun(const fs::path& text_path, base::Progress& progress,
                               const Invocation& invocation)
    : text_path_(text_path),
      text_(base::read_text_file(text_path, kTextBytesMax)),
      progress_(progress),
      invocation_(invocation) {}

std::string CalibrationRun::text_sha256() const {
  return base::to_hex(base::hash<base::Sha256>(base::as_bytes(text_)));
}

convert::Result CalibrationRun::convert(convert::Request request) {
  if (request.quant != convert::Quant::q4)
    throw base::Error(base::ErrorKind::usage, "--calibrate: only q4 can be calibrated");
  // The q8 conversion is scratch: its container is resumed by the same conversion and by no other
  // (convert::Request::scratch).
  convert::Request aside = request;
  aside.output = calibration_container(request.output);
  aside.quant = convert::Quant::q8;
  aside.scratch = true;
  convert::Calibration calibration;
  // The recipe records the text, because another text gives another container.
  calibration.text_sha256 = text_sha256();
  calibration.begin = [&] { begin(aside); };
  calibration.statistics = [this](std::uint64_t) { return calibrator_->next_layer(); };
  request.calibration = std::move(calibration);
  try {
    auto result = convert::convert(request, progress_, invocation_.stop);
    remove_calibration(request.output);
    return result;
  } catch (const base::Error& error) {
    // A run that can be resumed finds the q8 container again and need not make it twice.
    if (!convert::is_resumable(error.kind())) remove_calibration(request.output);
    throw;
  }
}

void CalibrationRun::begin(const convert::Request& aside) {
  static_cast<void>(convert::convert(aside, progress_, invocation_.stop));
  // The container was written or verified just now, so comparing its digests again would find nothing.
  model_.emplace(runtime::Model::open(aside.output, {.verify = runtime::Verify::off}));
  runtime::CalibrationOptions options;
  options.thread_count = aside.thread_count;
  options.isa = forced_isa();
  options.stop = invocation_.stop;
  calibrator_.emplace(*model_, text_, options);
  if (calibrator_->tokens() < calibrator_->tokens_total()) {
    invocation_.console.warn(text_path_.string() + ": the first " + std::to_string(calibrator_->tokens()) +
                             " of its " + std::to_string(calibrator_->tokens_total()) +
                             " tokens are used, whose states take 256 MiB");
  }
}

fs::path calibration_container(const fs::path& output) { return output.string() + ".calibration"; }

void remove_calibration(const fs::path& output) {
  const fs::path container = calibration_container(output);
  // The container may be finished or still a part file, depending on when the run was killed.
  base::discard_part_file(container);
  std::error_code ignored;
  // A file of the user may have this name; only what convert itself made as scratch is removed.
  if (convert::is_scratch(container)) fs::remove(container, ignored);
}

}  // namespace sluice::cli
