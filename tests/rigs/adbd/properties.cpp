// What Android's init gives adbd, given here by the environment of whoever starts it:
//
//   ADBD_PROPERTIES        the system properties, "name=value" a line
//   ANDROID_SOCKET_adbd    the file descriptor of the socket on which the framework is told of keys
//
// Both are taken out of the environment again, since a shell on the phone inherits it.

#include <android-base/properties.h>
#include <android-base/strings.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

std::string take(const char* name) {
  const char* value = getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

int framework_socket = -1;

// Outside Android, libbase keeps properties in the memory of the process that sets them.
__attribute__((constructor)) void take_environment() {
  for (const std::string& line : android::base::Split(take("ADBD_PROPERTIES"), "\n")) {
    size_t equals = line.find('=');
    if (equals != std::string::npos) {
      android::base::SetProperty(line.substr(0, equals), line.substr(equals + 1));
    }
  }
  std::string socket = take("ANDROID_SOCKET_adbd");
  if (!socket.empty()) framework_socket = atoi(socket.c_str());
}

}  // namespace

// Outside Android, libcutils has none to give.
extern "C" int android_get_control_socket(const char* name) {
  return strcmp(name, "adbd") == 0 ? framework_socket : -1;
}
