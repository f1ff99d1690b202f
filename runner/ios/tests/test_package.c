// Packages: what lies below their folder is unpacked, all else refused. Archives are made by tar(1).
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "package.h"

static bool run(const char *command) { return system(command) == 0; }

int main(void) {
    char folder[] = "package_test_XXXXXX";
    struct failure failure;
    CHECK(mkdtemp(folder) != NULL && chdir(folder) == 0);
    CHECK(run("mkdir -p m/Data/weights && printf hello > m/Manifest.json && head -c 1000 /dev/zero "
              "> m/Data/weights/w.bin && tar --format=ustar -C m -cf good.tar . 2>/dev/null"));
    // "./" leads nowhere else, but nothing needs it: names are Data/…
    CHECK(!package_unpack("good.tar", "dots", &failure));
    CHECK(run("tar --format=ustar -C m -cf good.tar Manifest.json Data"));
    CHECK(package_unpack("good.tar", "out", &failure));
    CHECK(run("diff -r m out"));
    CHECK(!package_unpack("good.tar", "out", &failure));  // it is there already
    CHECK(run("tar --format=ustar -C m -cf up.tar --transform='s,^,../,' -P Manifest.json"));
    CHECK(!package_unpack("up.tar", "up", &failure) && access("Manifest.json", F_OK) != 0);
    CHECK(run("tar --format=ustar -cf inside.tar --transform='s,m,a/../../b,' -P m/Manifest.json"));
    CHECK(!package_unpack("inside.tar", "inside", &failure));
    CHECK(run("tar --format=ustar -cf root.tar -P --transform=\"s,^,$PWD/,\" m/Manifest.json"));
    CHECK(!package_unpack("root.tar", "root", &failure));
    CHECK(run("ln -s /etc m/link && tar --format=ustar -C m -cf link.tar link"));
    CHECK(!package_unpack("link.tar", "link", &failure) && strstr(failure.message, "no file") != NULL);
    CHECK(run("head -c 1100 good.tar > short.tar"));
    CHECK(!package_unpack("short.tar", "short", &failure));
    CHECK(run("printf 'not a tar' > no.tar"));
    CHECK(!package_unpack("no.tar", "no", &failure) && !package_unpack("absent", "a", &failure));
    CHECK(chdir("..") == 0 && rmdir(folder) != 0);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(run(command));
    return CHECKS_STATUS;
}
