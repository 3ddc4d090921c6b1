/* What the dynamic loader does after a program's start, and around it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

extern int __nss_configure_lookup(const char *, const char *);

static void *open_in_thread(void *name) { return dlopen(name, RTLD_NOW); }

int main(int count, char **words) {
    const char *how = count > 1 ? words[1] : "", *name = count > 2 ? words[2] : "";
    if (!strcmp(how, "dlopen")) {
        printf("%d\n", dlopen(name, RTLD_NOW) != NULL);
    } else if (!strcmp(how, "dlsym")) {
        void *(*open)(const char *, int) = dlsym(RTLD_DEFAULT, "dlopen");
        printf("%d\n", open(name, RTLD_NOW) != NULL);
    } else if (!strcmp(how, "thread")) {
        pthread_t thread;
        void *opened;
        pthread_create(&thread, NULL, open_in_thread, (void *)name);
        pthread_join(thread, &opened);
        printf("%d\n", opened != NULL);
    } else if (!strcmp(how, "fork")) {
        if (!fork())
            _exit(dlopen(name, RTLD_NOW) != NULL);
        int status;
        wait(&status);
        printf("%d\n", WEXITSTATUS(status));
    } else if (!strcmp(how, "after a failed execve")) {
        char *none[] = {NULL};
        execve("/bin/sh/none", none, none);
        printf("%d\n", dlopen(name, RTLD_NOW) != NULL);
    } else if (!strcmp(how, "user")) {
        __nss_configure_lookup("passwd", name);
        printf("%d\n", getpwnam("nobody-of-that-name") != NULL);
    } else if (!strcmp(how, "addresses")) {
        personality(ADDR_NO_RANDOMIZE);
    } else if (!strcmp(how, "stack")) {
        void *near = (void *)((unsigned long)&count & ~0xffffffUL);
        mmap((char *)near - (1UL << 27), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    return 0;
}
